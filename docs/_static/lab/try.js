/* A cell of Python, on the page Try and below the listings of the notes. The address of the page,
   or of the listing's link, chooses its first content: ?example=core.elbo.elbo or ?code=1%2B1. */
"use strict";

numpyvaeLab.pages.try = async function (work, python) {
  const lab = numpyvaeLab;
  const find = (selector) => work.querySelector(selector);
  const form = find("form");
  const { code, go, stop } = form.elements;
  const output = find(".lab-output");
  const MOST = 20000; // characters of output that are kept
  let stopping = false;

  function show(text) {
    output.textContent = (output.textContent + text + "\n").slice(-MOST);
    output.scrollTop = output.scrollHeight;
  }
  function busy(state) {
    go.disabled = state;
    stop.disabled = !state;
    find(".lab-now").textContent = state ? "Running …" : "";
  }

  async function run() {
    if (go.disabled) return;
    output.textContent = "";
    python.onprint = show; // the cells of a page share one Python
    busy(true);
    try {
      const { error } = await python.call("cell.run", { code: code.value });
      if (error) show(error);
      busy(false);
    } catch (error) {
      if (stopping) return; // the button's function goes on
      show(error instanceof lab.Stopped ? "Another cell was stopped, and this one with it." : error.message);
      busy(false);
    }
  }

  async function end() {
    stop.disabled = stopping = true;
    find(".lab-now").textContent = "Stopping: Python starts anew …";
    await python.stop();
    stopping = false;
    busy(false);
    find(".lab-now").textContent = "Stopped. Python started anew: variables of earlier runs are lost.";
  }

  async function fill() {
    const query = new URLSearchParams(work.parentElement.dataset.query || location.search);
    const name = query.get("example") || "core.elbo.elbo_and_grad";
    try {
      ({ code: code.value } = query.has("code")
        ? { code: query.get("code") }
        : await python.call("cell.example", { dotted: name }));
      code.rows = code.value.split("\n").length + 2;
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
