/**
 * Installs one npm package as an MCP server, inside an image build, as root:
 *
 *     node /usr/local/lib/mooring/install.mjs <package> <version> [--scripts]
 *
 * `/app/server` becomes a link to the package's command: the one that `MOORING_BIN` names, else the
 * one of the package's own name, else the first. With `/app/package-lock.json` there, exactly what it
 * locks is installed. Every failure ends in one line, `mooring-install: <code>: <sentence>`.
 */
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const APP = "/app";

class InstallError extends Error {
  constructor(code, sentence) {
    super(sentence);
    this.code = code;
  }
}

try {
  const [name, version, ...options] = process.argv.slice(2);
  const strange = options.find((option) => option !== "--scripts");
  if (!name || !version || strange) {
    throw new InstallError("other", "Usage: install.mjs <package> <version> [--scripts]");
  }
  await install(name, version, options.includes("--scripts"));
  const command = findCommand(name, version);
  fs.rmSync(`${APP}/server`, { force: true });
  fs.symlinkSync(command, `${APP}/server`);
  settleTimes(APP);
} catch (error) {
  const sentence = error.message.replaceAll(/\s+/g, " ").slice(0, 500);
  const code = error instanceof InstallError ? error.code : "other";
  process.stderr.write(`mooring-install: ${code}: ${sentence}\n`);
  process.exitCode = 1;
}

/** Runs npm in `/app`; what it leaves beside the packages is removed. */
async function install(name, version, withScripts) {
  fs.mkdirSync(APP, { recursive: true });
  fs.writeFileSync(
    `${APP}/package.json`,
    JSON.stringify({ private: true, dependencies: { [name]: version } }, null, 2) + "\n",
  );
  const temporary = fs.mkdtempSync(join(tmpdir(), "mooring-install-"));
  try {
    const { code, errors } = await npm([
      fs.existsSync(`${APP}/package-lock.json`) ? "ci" : "install",
      "--omit=dev",
      "--no-audit",
      "--no-fund",
      "--no-update-notifier",
      ...(withScripts ? [] : ["--ignore-scripts"]),
      `--cache=${temporary}/cache`,
      // npm's own waits (10 s to a minute, twice) hide an untrusted certificate for minutes.
      "--fetch-retries=2",
      "--fetch-retry-mintimeout=1000",
      "--fetch-retry-maxtimeout=5000",
    ], temporary);
    if (code !== 0) throw explain(errors, name, version);
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
}

function npm(args, temporary) {
  return new Promise((resolve, reject) => {
    const child = spawn("npm", args, {
      cwd: APP,
      env: { ...process.env, TMPDIR: temporary, NODE_DISABLE_COMPILE_CACHE: "1" },
      stdio: ["ignore", "inherit", "pipe"],
    });
    let errors = "";
    child.stderr.on("data", (data) => {
      process.stderr.write(data);
      errors = (errors + data).slice(-64 * 1024);
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, errors }));
  });
}

function explain(errors, name, version) {
  const says = (pattern) => pattern.test(errors);
  if (says(/\bETARGET\b/)) {
    const which = /No matching version found for (\S+?)\.?\s/.exec(errors)?.[1];
    return new InstallError(
      "version-not-found",
      `The npm registry has no version ${which ?? `${name}@${version}`}`,
    );
  }
  if (says(/\bE404\b/)) {
    const which = /'([^']+)' is not in this registry/.exec(errors)?.[1];
    return new InstallError(
      "package-not-found",
      `The npm registry has no package ${which ?? name}, or it is private`,
    );
  }
  if (says(/SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER|VERIFY)|CERT_(UNTRUSTED|HAS_EXPIRED)/)) {
    return new InstallError(
      "untrusted-certificate",
      "The npm registry's TLS certificate is not trusted; name a proxy's CA file (PEM) in " +
        "NODE_EXTRA_CA_CERTS",
    );
  }
  if (
    says(
      /EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT/,
    )
  ) {
    return new InstallError("network", "The npm registry cannot be reached from this build");
  }
  const lines = errors.split("\n").filter((line) => /^npm (error|ERR!)/.test(line)).slice(0, 3);
  return new InstallError("other", `npm failed: ${lines.join(" ") || "it did not say why"}`);
}

/** One lock file makes one layer, whenever it is built: files get one time (zip knows none before it). */
function settleTimes(path) {
  const stat = fs.lstatSync(path);
  if (stat.isDirectory()) {
    for (const name of fs.readdirSync(path)) {
      settleTimes(join(path, name));
    }
  }
  fs.lutimesSync(path, 315_532_800, 315_532_800);
}

/** The file, under `/app`, that the package's command is. */
function findCommand(name, version) {
  const directory = `node_modules/${name}`;
  const manifest = JSON.parse(fs.readFileSync(`${APP}/${directory}/package.json`, "utf8"));
  const unscoped = name.slice(name.lastIndexOf("/") + 1);
  const commands = typeof manifest.bin === "string"
    ? { [unscoped]: manifest.bin }
    : manifest.bin ?? {};
  const wanted = process.env.MOORING_BIN;
  const relative = wanted ? commands[wanted] : commands[unscoped] ?? Object.values(commands)[0];
  if (!relative) {
    const names = Object.keys(commands).join(", ");
    throw new InstallError(
      "no-bin",
      names
        ? `${name}@${version} has no bin ${wanted}, which MOORING_BIN names; it has ${names}`
        : `${name}@${version} has no bin, so there is nothing to run`,
    );
  }
  const file = join(directory, relative);
  const real = fs.existsSync(`${APP}/${file}`) ? fs.realpathSync(`${APP}/${file}`) : "";
  const inside = real.startsWith(fs.realpathSync(`${APP}/${directory}`) + "/");
  if (!inside || !fs.statSync(real).isFile()) {
    throw new InstallError(
      "no-bin",
      `${name}@${version} has no bin: ${relative} is not a file in it`,
    );
  }
  const firstLine = fs.readFileSync(`${APP}/${file}`).subarray(0, 200).toString().split("\n", 1)[0];
  if (!/\.[mc]?js$/.test(file) && !/^#!.*\bnode\b/.test(firstLine)) {
    throw new InstallError(
      "bin-not-javascript",
      `The command ${relative} of ${name}@${version} is no JavaScript, and only Node runs here`,
    );
  }
  return file;
}
