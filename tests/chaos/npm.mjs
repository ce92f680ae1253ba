#!/usr/bin/env node
// Stands in for npm in the harness's base image, so that builds need no network: whatever package
// is asked for is the fixture server that counts calls, with a lock file as npm writes one.
import * as fs from "node:fs";

const { dependencies } = JSON.parse(fs.readFileSync("package.json", "utf8"));
const [[name, version]] = Object.entries(dependencies);
const directory = `node_modules/${name}`;
fs.mkdirSync(directory, { recursive: true });
for (const file of fs.readdirSync("/fixtures")) {
  fs.copyFileSync(`/fixtures/${file}`, `${directory}/${file}`);
}
const manifest = { name, version, type: "module", bin: "counts.mjs" };
fs.writeFileSync(`${directory}/package.json`, JSON.stringify(manifest));
fs.writeFileSync(
  "package-lock.json",
  JSON.stringify({
    lockfileVersion: 3,
    packages: { "": { dependencies }, [directory]: { version } },
  }),
);
