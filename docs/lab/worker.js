/* Runs in a Web Worker: starts Python from the archive of `runtime.py`, and calls its functions.

   The page sends {parts} once, and then {call, name, args}; it receives {progress}, {print},
   {ready}, and for each call {answer, arrays} or {error}. */
"use strict";

let python;
let call; // numpyvae_lab.bridge.call

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpack(parts) {
  const archive = new Uint8Array(await new Blob(parts.map(bytesOf)).arrayBuffer());
  const body = 4 + new DataView(archive.buffer).getUint32(0, true);
  const files = {};
  for (const [name, start, length] of JSON.parse(new TextDecoder().decode(archive.subarray(4, body)))) {
    const bytes = archive.slice(body + start, body + start + length);
    if (name.endsWith(".gz")) files[name.slice(0, -3)] = await inflated(bytes);
    else files[name] = bytes;
  }
  return files;
}

async function start(parts) {
  const tell = (done, text) => postMessage({ progress: done, text });
  const files = await unpack(parts);
  tell(0.2, "Starting Python");
  // Pyodide asks for its files by their address; they are already here.
  self.fetch = async (address) => {
    const name = String(address).split("/").pop();
    const type = name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
    return new Response(files[name], { headers: { "Content-Type": type } });
  };
  for (const name of ["pyodide.asm.js", "pyodide.js"]) {
    importScripts(URL.createObjectURL(new Blob([files[name]], { type: "text/javascript" })));
  }
  const print = (text) => postMessage({ print: text });
  python = await loadPyodide({
    indexURL: "https://lab.invalid/", // never asked: see fetch above
    stdout: print,
    stderr: print,
    env: { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1" },
  });
  tell(0.6, "Loading NumPy");
  const place = python.runPython("import site; site.getsitepackages()[0]");
  for (const name of ["numpy.zip", "numpyvae.zip"]) {
    python.unpackArchive(files[name], "zip", { extractDir: place });
  }
  python.runPython("import numpy");
  tell(0.9, "Loading numpyvae");
  call = python.pyimport("numpyvae_lab.bridge").call;
  postMessage({ ready: true });
}

function answer({ name, args }) {
  const result = call(name, JSON.stringify(args));
  const [text, proxies] = result; // a tuple: the answer in JSON, and its arrays
  const arrays = [];
  for (const proxy of proxies) {
    const buffer = proxy.getBuffer();
    arrays.push(buffer.data.slice());
    buffer.release();
    proxy.destroy();
  }
  proxies.destroy();
  result.destroy();
  postMessage({ answer: text, arrays }, arrays.map((array) => array.buffer));
}

onmessage = async ({ data }) => {
  try {
    if (data.parts) await start(data.parts);
    else answer(data);
  } catch (error) {
    postMessage({ error: error.message });
  }
};
