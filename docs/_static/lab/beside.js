/* On the pages of the notes: a link "Try it" opens a cell of Python below its listing. Until a link
   is pressed, this is the only file of the lab that the page loads. */
"use strict";

(function () {
  const HERE = new URL(".", document.currentScript.src);
  const links = [...document.querySelectorAll(".lab-try a")];
  let tools; // the promise of the lab's scripts

  function loadTools() {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("lab.css", HERE);
    document.head.append(style);
    return ["engine.js", "try.js"].reduce((before, name) => before.then(() => new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(name, HERE);
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    })), Promise.resolve());
  }

  function makeCell(link) {
    const cell = document.createElement("div");
    cell.className = "lab-beside";
    // Each copy needs its own id.
    cell.innerHTML = document.getElementById("lab-cell").innerHTML
      .replaceAll("lab-keys", `lab-keys-${links.indexOf(link)}`);
    cell.querySelector(".lab").dataset.query = link.search;
    link.parentElement.after(cell);
    window.numpyvaeLab.prepare(cell.querySelector(".lab"));
    return cell;
  }

  async function toggle(link) {
    try {
      await (tools ??= loadTools());
    } catch {
      location.href = link.href; // the page of the lab says what is missing
      return;
    }
    link.cell ??= makeCell(link);
    const opened = link.getAttribute("aria-expanded") !== "true";
    link.cell.hidden = !opened;
    link.setAttribute("aria-expanded", opened);
    link.textContent = opened ? "Hide the cell" : "Try it";
  }

  for (const link of links) {
    link.setAttribute("role", "button");
    link.setAttribute("aria-expanded", "false");
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as with any link
      event.preventDefault();
      toggle(link);
    });
    link.addEventListener("keydown", (event) => {
      if (event.key !== " ") return; // as every button
      event.preventDefault();
      toggle(link);
    });
  }
})();
