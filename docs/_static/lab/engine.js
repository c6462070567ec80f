/* Python in a Web Worker, for a page of the lab.

     const python = new numpyvaeLab.Python(count)
     await python.load()
     const { picture } = await python.call("train.restart", { latent_dim: 2, … })
     python.stop()      ends what runs: Python starts anew, and its variables are lost

   A page registers itself: numpyvaeLab.pages.train = (work, python) => { … }. Its function is
   called when Python is there, once. */
"use strict";

window.numpyvaeLab = { pages: {} };

(function (lab) {
  const HERE = new URL(".", document.currentScript.src);
  const parts = []; // what the scripts of the runtime contain, by their number

  lab.receive = (i, text) => { parts[i] = text; };

  function loadScript(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(name, HERE);
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${name} is missing: copy the whole folder of the site`));
      document.head.append(script);
    });
  }

  /* Arrays come beside the text: {array: i, shape} becomes {data, shape}. */
  function withArrays(text, arrays) {
    return JSON.parse(text, (key, value) =>
      value && value.shape && "array" in value ? { data: arrays[value.array], shape: value.shape } : value);
  }

  lab.Python = class {
    constructor(count) {
      this.count = count; // of the scripts part-0.js …
      this.onprint = (text) => {};
      this.onprogress = (done, text) => {};
    }

    /* Start Python, if it does not run yet. */
    load() {
      this.loading ??= this.#start();
      this.loading.catch(() => { this.loading = null; }); // so that the next call tries again
      return this.loading;
    }

    async #start() {
      if (!lab.workerSource) await this.#loadParts();
      this.onprogress(0.5, "Starting Python");
      const source = new Blob([lab.workerSource], { type: "text/javascript" });
      this.worker = new Worker(URL.createObjectURL(source));
      this.waiting = [];
      this.worker.onmessage = ({ data }) => this.#hear(data);
      await new Promise((resolve, reject) => {
        this.waiting.push({ resolve, reject });
        this.worker.onerror = (event) => reject(new Error(event.message));
        this.worker.postMessage({ parts });
      });
      this.onprogress(1, "");
    }

    async #loadParts() {
      const count = this.count;
      let done = 0;
      const names = Array.from({ length: count }, (_, i) => `part-${i}.js`);
      await Promise.all(["worker-source.js", ...names].map(async (name) => {
        await loadScript(name);
        done += 1;
        this.onprogress((0.5 * done) / (count + 1), `Loaded ${done} of ${count + 1} files`);
      }));
    }

    #hear(data) {
      if ("print" in data) this.onprint(data.print);
      else if ("progress" in data) this.onprogress(0.5 + data.progress / 2, data.text);
      else {
        const { resolve, reject } = this.waiting.shift();
        if (data.error) reject(new Error(data.error));
        else resolve(data.ready || withArrays(data.answer, data.arrays));
      }
    }

    /* Call a function of the Python package numpyvae_lab; the calls are answered in order. */
    call(name, args = {}) {
      return new Promise((resolve, reject) => {
        this.waiting.push({ resolve, reject });
        this.worker.postMessage({ name, args });
      });
    }

    /* End what runs and start Python anew; calls without an answer are rejected. */
    async stop() {
      this.worker.terminate();
      for (const { reject } of this.waiting) reject(new lab.Stopped("stopped"));
      this.loading = null;
      await this.load();
    }
  };

  lab.Stopped = class extends Error {};

  /* The last line of a Python traceback: what a reader of a form needs. */
  lab.lastLine = (error) => error.message.trim().split("\n").pop();

  /* Return a function that runs `ask` with one call at a time, and always for the newest state:
     what was asked for in between is left out. */
  lab.newest = function (ask) {
    let running = null;
    let waiting = false;
    async function run() {
      while (waiting) {
        waiting = false;
        await ask();
      }
      running = null;
    }
    return () => {
      waiting = true;
      running = running || run();
      return running;
    };
  };

  /* Make a panel work: its button loads Python and then shows the page's own controls. All panels
     of a page share one Python; a panel that comes when it runs needs no button. */
  lab.prepare = function (root) {
    const find = (name) => root.querySelector(`.lab-${name}`);
    const [button, progress, status, work] = ["start", "progress", "status", "work"].map(find);
    const python = (lab.python ??= new lab.Python(Number(root.dataset.parts)));
    root.python = python; // for the console: document.querySelector(".lab").python.call(…)
    // On other pages the arrow keys turn to the next page.
    root.addEventListener("keydown", (event) => {
      if (event.key.startsWith("Arrow")) event.stopPropagation();
    });
    async function start() {
      const begin = performance.now();
      button.disabled = true;
      progress.hidden = false;
      python.onprogress = (done, text) => {
        progress.value = done;
        status.textContent = text;
      };
      try {
        await python.load();
        root.dataset.seconds = ((performance.now() - begin) / 1000).toFixed(2);
        find("about").hidden = button.hidden = progress.hidden = true;
        work.hidden = false;
        await lab.pages[root.dataset.page](work, python);
        root.dataset.ready = "true";
      } catch (error) {
        console.warn(error);
        status.textContent = `Python did not start: ${lab.lastLine(error)}`;
        button.disabled = false;
      }
    }
    button.addEventListener("click", start);
    if (python.loading) start();
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".lab").forEach(lab.prepare);
  });
})(window.numpyvaeLab);
