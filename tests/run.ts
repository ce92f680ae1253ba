/**
 * `deno task test`: gets what the tests need where it can (Debian or Ubuntu as root), says aloud what
 * it cannot, runs all tests and ends with the plain line `N passed, N failed, N skipped`.
 *
 * Arguments are passed on: `deno task test tests/models` runs those alone.
 */
import { ensureEngine } from "../engine.ts";
import { ENDED, tallyOf } from "./tally.ts";

/** No test takes as long, on a machine that is slow and does much else. */
const HANGS_AFTER_MIN = 30;
const TIMES_OUT_AFTER_MIN = 180;
const say = (line: string) => console.log(line);

if (await isDebianRoot()) {
  await installMissing({
    "/usr/bin/chromium": "chromium",
    "/usr/lib/postgresql": "postgresql",
    "/usr/lib/x86_64-linux-gnu/faketime": "libfaketime",
    "/usr/bin/docker-registry": "docker-registry",
    "/usr/bin/docker-compose": "docker-compose",
    "/usr/bin/systemd-analyze": "systemd",
    "/usr/bin/zsh": "zsh",
    "/usr/bin/fish": "fish",
    "/usr/bin/runsc": "runsc",
    "/usr/bin/gcc": "gcc",
    "/usr/lib/x86_64-linux-gnu/libc.a": "libc6-dev",
    "/usr/bin/podman": "podman",
    "/usr/bin/crun": "crun",
    "/usr/libexec/podman/catatonit": "catatonit",
    "/usr/lib/podman/netavark": "netavark",
    "/usr/lib/podman/aardvark-dns": "aardvark-dns",
  });
}
const engine = await ensureEngine({ install: true, log: say, logDirectory: "/tmp" });
if (engine.state === "ready") {
  const base = await run(Deno.execPath(), [
    "run",
    "--quiet",
    "-A",
    path("../images/base.ts"),
    "node",
    "python",
    "dotnet",
  ]);
  if (!base.success) say("The base image could not be made: tests on containers will be skipped");
} else {
  say(`No Docker Engine: tests on containers will be skipped. ${engine.reason}. ${engine.advice}`);
}

const chosen = Deno.args.length > 0 ? Deno.args : ["tests/"];
const test = new Deno.Command(Deno.execPath(), {
  // Of its own: a lock file's packages are all fetched, and users need none of the tests'.
  args: ["test", "-A", "--no-check", "--lock=tests/deno.lock", ...chosen],
  cwd: path(".."),
  env: { NO_COLOR: "1" },
  stdout: "piped",
  stderr: "inherit",
}).spawn();
const stopAfter = (minutes: number, why: string) =>
  setTimeout(() => {
    say(`The tests were stopped after ${minutes} minutes${why}`);
    test.kill("SIGKILL");
  }, minutes * 60_000);
const bound = stopAfter(TIMES_OUT_AFTER_MIN, "");
let silence = stopAfter(HANGS_AFTER_MIN, " in which no test ended");

let output = "";
for await (const text of test.stdout.pipeThrough(new TextDecoderStream())) {
  output += text;
  if (ENDED.test(text)) {
    clearTimeout(silence);
    silence = stopAfter(HANGS_AFTER_MIN, " in which no test ended");
  }
  await Deno.stdout.write(new TextEncoder().encode(text));
}
const status = await test.status;
clearTimeout(bound);
clearTimeout(silence);

const { passed, failed, skipped } = tallyOf(output, status.success);
say(`${passed} passed, ${failed} failed, ${skipped} skipped`);
Deno.exit(failed === 0 ? 0 : 1);

async function isDebianRoot(): Promise<boolean> {
  const isDebian = await Deno.stat("/etc/debian_version").then(() => true, () => false);
  return isDebian && Deno.uid() === 0;
}

async function installMissing(packages: Record<string, string>) {
  const missing: string[] = [];
  for (const [file, name] of Object.entries(packages)) {
    if (!await Deno.stat(file).then(() => true, () => false)) missing.push(name);
  }
  if (missing.length === 0) return;
  say(`Installing ${missing.join(", ")} for the tests`);
  await run("apt-get", ["update", "-qq"]);
  const { success } = await run("apt-get", [
    "install",
    "-y",
    "-qq",
    "--no-install-recommends",
    ...missing,
  ]);
  if (!success) say(`apt-get could not install ${missing.join(", ")}: their tests will be skipped`);
}

function run(command: string, args: string[]) {
  return new Deno.Command(command, {
    args,
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
    stdout: command === "apt-get" ? "null" : "inherit",
  }).spawn().status;
}

function path(name: string): string {
  return decodeURIComponent(new URL(name, import.meta.url).pathname);
}
