/* Run Python in Node.js by Pyodide: node pyodide.mjs FOLDER SCRIPT [ARGUMENT …]

   FOLDER was made by pyodide.py: pyodide/ has the runtime, files/ becomes the folder /project. */
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, script, ...args] = process.argv.slice(2);
const { loadPyodide } = createRequire(import.meta.url)(resolve(folder, "pyodide", "pyodide.js"));
const python = await loadPyodide({
  indexURL: `${resolve(folder, "pyodide")}/`,
  env: { HOME: "/tmp", PYTHONDONTWRITEBYTECODE: "1", CI: "true" },
});
python.mountNodeFS("/project", resolve(folder, "files"));
python.globals.set("arguments", python.toPy([script, ...args]));
let code = 1;
try {
  code = python.runPython(`
import os, runpy, sys
os.chdir("/project")
sys.path[:0] = ["/project", "/project/site-packages"]
sys.argv = list(arguments)
code = 0
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    code = end.code or 0
int(code)
`);
} catch (error) {
  console.error(error.message); // not the stack, whose first line is all of Pyodide
}
process.exit(code);
