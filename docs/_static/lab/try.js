/* The page Try: a cell of Python. The address chooses its first content, as in try.html?example=core.elbo.elbo. */
"use strict";

numpyvaeLab.pages.try = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const form = find("form");
  const { code, go, stop } = form.elements;
  const output = find(".lab-output");
  const MOST = 20000; // characters of output that are kept

  function show(text) {
    output.textContent = (output.textContent + text + "\n").slice(-MOST);
    output.scrollTop = output.scrollHeight;
  }
  python.onprint = show;

  function busy(state) {
    go.disabled = state;
    stop.disabled = !state;
    find(".lab-now").textContent = state ? "Running …" : "";
  }

  async function run() {
    if (go.disabled) return;
    output.textContent = "";
    busy(true);
    try {
      const { error } = await python.call("cell.run", { code: code.value });
      if (error) show(error);
      busy(false);
    } catch (error) {
      if (error instanceof lab.Stopped) return; // the button's function goes on
      show(error.message);
      busy(false);
    }
  }

  async function end() {
    stop.disabled = true;
    find(".lab-now").textContent = "Stopping: Python starts anew …";
    await python.stop();
    busy(false);
    find(".lab-now").textContent = "Stopped. Python started anew: variables of earlier runs are lost.";
  }

  async function fill() {
    const name = new URLSearchParams(location.search).get("example") || "core.elbo.elbo_and_grad";
    try {
      ({ code: code.value } = await python.call("cell.example", { dotted: name }));
    } catch (error) {
      show(lab.lastLine(error));
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  stop.addEventListener("click", end);
  code.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  });
  await fill();
};
