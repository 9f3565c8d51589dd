// One bundle a widget: src/<name>/index.ts -> nbcanvas/notebook/static/<name>.js (and <name>.css, where it imports a style).
// What several widgets share lives in src/ beside them and is bundled into each: anywidget loads every bundle on its own.
//
//   node build.mjs            build once, minified
//   node build.mjs --watch    build at every change, readable
import { existsSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const sources = fileURLToPath(new URL("src/", import.meta.url));
const target = fileURLToPath(new URL("../nbcanvas/notebook/static/", import.meta.url));
const watch = process.argv.includes("--watch");

const entryPoints = Object.fromEntries(
  readdirSync(sources)
    .map((name) => [name, `${sources}${name}/index.ts`])
    .filter(([, entry]) => existsSync(entry)),
);

/** @type {esbuild.BuildOptions} */
const options = {
  entryPoints,
  outdir: target,
  bundle: true,
  format: "esm",
  target: "es2022",
  loader: { ".svg": "text" },
  minify: !watch,
  sourcemap: watch ? "inline" : false,
  logLevel: "info",
};

if (watch) {
  await (await esbuild.context(options)).watch();
} else {
  rmSync(target, { recursive: true, force: true }); // a widget that is gone leaves no bundle behind
  await esbuild.build(options);
}
