/**
 * The launcher (mooring-dtma.sh) alone, with stand-ins for DTMA that do what it looks at: tell a
 * version, write `status`, end. The real thing is in upgrade_test.ts.
 */
import assert from "node:assert/strict";
import { dtmaPermissions } from "../../dtma/permissions.ts";
import { ENVIRONMENT } from "../../dtma/protocol.ts";
import { eventually } from "../e2e/app.ts";

const LAUNCHER = new URL("../../dtma/mooring-dtma.sh", import.meta.url).pathname;

/** What a stand-in does after it has noted in the file `ran` that it runs, and as what. */
const ACTS = {
  works: "keep(`ok ${now()} ${run}`); for await (const _ of Deno.stdin.readable);",
  waits:
    "keep(`waiting ${now()} ${run} The app is away`); for await (const _ of Deno.stdin.readable);",
  ends: "Deno.exit(7);",
  unwanted: "Deno.exit(3);",
  mute: "for await (const _ of Deno.stdin.readable);",
  lingers:
    "end = () => { keep(`ends`); setInterval(() => { try { Deno.statSync(data + `/goes`); } " +
    "catch { return; } Deno.exit(0); }, 50); };" +
    "keep(`ok ${now()} ${run}`); for await (const _ of Deno.stdin.readable);",
};

function standIn(version: string, act: keyof typeof ACTS, tellsAfterMs: number): string {
  return `
    if (Deno.args[0] === "--version") {
      await new Promise((resolve) => setTimeout(resolve, ${tellsAfterMs}));
      console.log("mooring-dtma ${version}");
      Deno.exit(0);
    }
    const data = Deno.env.get("DTMA_DATA_DIR"), run = Deno.env.get("DTMA_RUN");
    const now = () => Math.floor(Date.now() / 1000);
    const keep = (line) => Deno.writeTextFileSync(data + "/status", line + "\\n");
    let end = () => Deno.exit(0);
    Deno.addSignalListener("SIGTERM", () => end());
    const told = Deno.env.get("DTMA_ROLLED_BACK");
    Deno.writeTextFileSync(data + "/ran", ["${version}", run, Deno.pid, told].join(" "));
    ${ACTS[act]}`;
}

async function withLauncher(run: (at: Place) => Promise<void>) {
  for (const shell of ["dash", "bash"]) {
    const directory = await Deno.makeTempDir({ prefix: "mooring-launcher-" });
    const place = new Place(directory, shell);
    try {
      await run(place);
    } finally {
      await place.kill();
      await Deno.remove(directory, { recursive: true });
    }
  }
}

class Place {
  readonly data: string;
  readonly programs: string;
  /** Long: a loaded machine needs a while for what is to be confirmed. */
  trialS = 120;
  unwantedS = 0;
  #child: Deno.ChildProcess | null = null;

  constructor(readonly directory: string, readonly shell: string) {
    this.data = `${directory}/data`;
    this.programs = `${this.data}/programs`;
    Deno.mkdirSync(this.data);
  }

  /** A file with a stand-in in it, which tells its version after so long. */
  program(version: string, act: keyof typeof ACTS, tellsAfterMs = 0): string {
    const path = `${this.directory}/${version}.js`;
    Deno.writeTextFileSync(path, standIn(version, act, tellsAfterMs));
    return path;
  }

  get env() {
    return {
      DTMA_DATA_DIR: this.data,
      DTMA_DENO: Deno.execPath(),
      DTMA_TRIAL_S: String(this.trialS),
      DTMA_UNWANTED_S: String(this.unwantedS),
    };
  }

  start(...program: string[]) {
    this.#child = new Deno.Command(this.shell, {
      args: [LAUNCHER, "run", ...program],
      env: this.env,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  /** Of a launcher that ended by itself, or that is asked to. */
  async end(signal?: Deno.Signal): Promise<number> {
    if (signal) this.#child!.kill(signal);
    const { code } = await this.#child!.status;
    this.#child = null;
    return code;
  }

  async kill() {
    if (this.#child) await this.end("SIGKILL").catch(() => {});
  }

  async verb(...args: string[]): Promise<[number, string]> {
    const { code, stderr } = await new Deno.Command(this.shell, {
      args: [LAUNCHER, ...args],
      env: this.env,
    }).output();
    return [code, new TextDecoder().decode(stderr)];
  }

  /** Waits until this version runs, as this. */
  runs(version: string, as: string) {
    return eventually(
      `${version} runs as ${as} (${this.shell})`,
      async () => (await this.ran()).startsWith(`${version} ${as}.`),
    );
  }

  async pid(): Promise<number> {
    return Number((await this.ran()).split(" ")[2]);
  }

  async told(): Promise<string> {
    return (await this.ran()).split(" ").slice(3).join(" ");
  }

  async kept(): Promise<Record<string, string | undefined>> {
    const version = (name: string) =>
      Deno.readTextFile(`${this.programs}/${name}`).then(
        (text) => /mooring-dtma ([\d.]+)/.exec(text)?.[1],
        () => undefined,
      );
    const names = ["current", "previous", "candidate", "trial"];
    return Object.fromEntries(
      (await Promise.all(names.map(async (name) => [name, await version(name)])))
        .filter(([, version]) => version),
    );
  }

  ran = () => Deno.readTextFile(`${this.data}/ran`).catch(() => "");
}

Deno.test("the launcher takes up what is shipped once, and goes back from what ends", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    assert.equal(await at.end("SIGTERM"), 0);

    const broken = at.program("2.0.0", "ends");
    at.start(broken);
    await eventually("it goes back", async () => (await at.told()).includes("2.0.0 It ended"));
    await at.runs("1.0.0", "current");
    assert.deepEqual(await at.kept(), { current: "1.0.0" });
    assert.equal(await at.end("SIGTERM"), 0);
    await Deno.remove(`${at.data}/ran`);
    at.start(broken);
    await at.runs("1.0.0", "current");
    assert.match(await at.told(), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ 2\.0\.0 It ended with code 7/);

    assert.deepEqual(await at.verb("upgrade", at.program("3.0.0", "works")), [
      0,
      "mooring-dtma: Version 3.0.0 is tried; servers run on\nmooring-dtma: Version 3.0.0 runs\n",
    ]);
    assert.deepEqual(await at.kept(), { current: "3.0.0", previous: "1.0.0" });
    assert.equal((await at.verb("health"))[0], 0);
    await at.end("SIGTERM");
    at.start();
    await at.runs("3.0.0", "current");
    assert.equal(await at.told(), "", "what was rolled back is over");
  }));

Deno.test("the launcher gives DTMA the permissions of permissions.ts, and no others", () =>
  withLauncher(async (at) => {
    for (
      const settings of <Record<string, string>[]> [
        { MOORING_URL: "https://mooring.example/app", DTMA_REACH: "tunnel" },
        { MOORING_URL: "http://127.0.0.1:4680", DTMA_LISTEN: "10.0.0.1:4700" },
        { MOORING_URL: "http://[::1]/", DTMA_SCANNER: "/usr/bin/trivy" },
        { MOORING_URL: "https://[::1]:8443", DOCKER_HOST: "unix:///run/podman.sock" },
        {
          MOORING_URL: "https://m.example",
          MOORING_ENROLMENT_TOKEN_FILE: "/run/token",
          DTMA_CEILING: "/etc/ceiling.json",
          DTMA_SOURCE_DIRECTORIES: "/srv/a,/srv/b",
        },
        {
          MOORING_URL: "https://m.example",
          DTMA_SOURCE_DIRECTORIES: "/srv/a, /srv/b ,/srv/c,",
        },
      ]
    ) {
      // Stands in for Deno, and says what it is to run.
      const environment = {
        ...settings,
        DTMA_DATA_DIR: at.data,
        NODE_EXTRA_CA_CERTS: "/etc/ca.pem",
      };
      const { stdout } = await new Deno.Command(at.shell, {
        args: [LAUNCHER, "run", at.program("1.0.0", "works")],
        env: { PATH: Deno.env.get("PATH")!, ...environment, DTMA_DENO: "/bin/echo" },
        clearEnv: true,
        stderr: "null",
      }).output();
      const given = new TextDecoder().decode(stdout).split(" ")
        .filter((word) => /^--(allow|deny)-/.test(word));
      const env = given.find((word) => word.startsWith("--allow-env="))!.slice(12).split(",");
      const isRead = (name: string) =>
        env.some((each) =>
          each === name || (each.endsWith("*") && name.startsWith(each.slice(0, -1)))
        );
      assert.deepEqual(ENVIRONMENT.filter((name) => !isRead(name)), []);
      const sorted = (words: string[]) =>
        words.filter((word) => /^--(allow|deny)-(?!env=)/.test(word))
          .map((word) => word.split(/[=,]/).toSorted()).toSorted();
      assert.deepEqual(sorted(given), sorted(dtmaPermissions(environment)));
    }
  }));

Deno.test("the launcher passes on that DTMA is unwanted, in a container after a while", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "unwanted"));
    assert.equal(await at.end(), 3);
    at.unwantedS = 3600;
    await Deno.remove(`${at.data}/ran`);
    at.start();
    await at.runs("1.0.0", "current");
    // It ends at once when it is asked to, before that wait or in it.
    assert.equal(await at.end("SIGTERM"), 3);
  }));

Deno.test("the launcher refuses what is no DTMA, and a second upgrade meanwhile", () =>
  withLauncher(async (at) => {
    at.trialS = 10;
    at.start();
    assert.equal(await at.end(), 1, "there is no program");
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    const strange = `${at.directory}/strange.js`;
    await Deno.writeTextFile(strange, 'console.log("hello")');
    assert.match((await at.verb("upgrade", strange))[1], /is no DTMA, or does not run here/);
    await Deno.writeTextFile(strange, "\x7fELF and no more");
    assert.match((await at.verb("upgrade", strange))[1], /is no DTMA, or does not run here/);

    const upgrading = at.verb("upgrade", at.program("2.0.0", "waits"));
    await at.runs("2.0.0", "trial");
    assert.match(
      (await at.verb("upgrade", at.program("3.0.0", "works")))[1],
      /Another upgrade is under way/,
    );
    const [code, said] = await upgrading;
    assert.equal(code, 1);
    assert.match(said, /2\.0\.0 It had not taken over after 10 seconds\. The app is away/);
    await at.runs("1.0.0", "current");
    await eventually("it says that it works", async () => (await at.verb("health"))[0] === 0);
    await Deno.writeTextFile(`${at.data}/status`, "ok 1000 current.1.1\n");
    assert.equal((await at.verb("health"))[0], 1, "it has not said so for long");
  }));

const noMount = Deno.uid() === 0 ? null : "to mount a small disk needs root";
if (noMount) console.warn(`SKIPPED, an upgrade on a full disk: ${noMount}`);

Deno.test({
  name: `an upgrade that the disk has no room for leaves nothing${
    noMount ? ` (skipped: ${noMount})` : ""
  }`,
  ignore: noMount !== null,
  fn: () =>
    withLauncher(async (at) => {
      const run = async (...[command, ...args]: string[]) => {
        const { success, stderr } = await new Deno.Command(command, { args }).output();
        assert.ok(success, new TextDecoder().decode(stderr));
      };
      const large = at.program("2.0.0", "works");
      await Deno.writeTextFile(large, "/".repeat(256 * 1024), { append: true });
      await Deno.mkdir(at.programs);
      await run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", at.programs);
      try {
        const [code, said] = await at.verb("upgrade", large);
        assert.equal(code, 1);
        assert.match(said, /No space left[^]*It cannot be copied/);
        assert.deepEqual([...Deno.readDirSync(at.programs)], []);
      } finally {
        await run("umount", at.programs);
      }
    }),
});

Deno.test("what the launcher started ends with it, and an unfinished step is finished or undone", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    const pid = await at.pid();
    await at.kill();
    await eventually(
      "DTMA ends with a killed launcher",
      () => Deno.stat(`/proc/${pid}`).then(() => false, () => true),
    );

    // Killed between the confirmation and the last rename.
    await Deno.copyFile(at.program("2.0.0", "works"), `${at.programs}/trial`);
    await Deno.writeTextFile(`${at.data}/status`, "ok 1 trial.1.1\n");
    at.start();
    await at.runs("2.0.0", "current");
    assert.deepEqual(await at.kept(), { current: "2.0.0", previous: "1.0.0" });
    await at.kill();

    // An `ok` of the one before confirms nothing.
    await Deno.copyFile(at.program("3.0.0", "works"), `${at.programs}/trial`);
    await Deno.writeTextFile(`${at.data}/status`, "ok 1 current.1.1\n");
    at.start();
    await at.runs("2.0.0", "current");
    await eventually(
      "it is told",
      async () => /3\.0\.0 Its trial was broken/.test(await at.told()),
    );
    assert.deepEqual(await at.kept(), { current: "2.0.0", previous: "1.0.0" });
  }));

Deno.test("what an upgrade before was confirmed by confirms no later one", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    assert.equal((await at.verb("upgrade", at.program("2.0.0", "works")))[0], 0);
    // It runs on as it was started: on trial.
    await Deno.copyFile(at.program("3.0.0", "mute"), `${at.programs}/candidate`);
    await at.runs("3.0.0", "trial");
    await at.kill();
    at.start();
    await at.runs("2.0.0", "current");
    assert.match(await at.told(), /3\.0\.0 Its trial was broken off/);
    assert.deepEqual(await at.kept(), { current: "2.0.0", previous: "1.0.0" });
  }));

Deno.test("a launcher that is stopped as it changes to another version ends, and tries it next time", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "lingers"));
    await at.runs("1.0.0", "current");
    await Deno.copyFile(at.program("2.0.0", "works"), `${at.programs}/candidate`);
    const status = () => Deno.readTextFile(`${at.data}/status`);
    await eventually("the first is ended", async () => (await status()).startsWith("ends"));
    const ended = at.end("SIGTERM").then(() => "ended");
    await Deno.writeTextFile(`${at.data}/goes`, "");
    const goneOn = at.runs("2.0.0", "trial").then(() => "gone on", () => "neither");
    assert.equal(await Promise.race([ended, goneOn]), "ended");
    assert.deepEqual(await at.kept(), { current: "1.0.0", candidate: "2.0.0" });
    at.start();
    await at.runs("2.0.0", "trial");
    await goneOn;
  }));

Deno.test("a launcher that is stopped as it goes back ends, and what it went back to runs next time", () =>
  withLauncher(async (at) => {
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    const candidate = at.program("2.0.0", "ends", 4000);
    await Deno.copyFile(candidate, `${at.programs}/next`);
    await Deno.rename(`${at.programs}/next`, `${at.programs}/candidate`);
    // It asks the one that ended who it is.
    await eventually("it goes back", () => isRun(`${at.programs}/trial --version`));
    assert.equal(await at.end("SIGTERM"), 0);
    assert.deepEqual(await at.kept(), { current: "1.0.0" });
    at.start();
    await at.runs("1.0.0", "current");
    assert.match(await at.told(), /2\.0\.0 It ended with code 7/);
  }));

/** Whether a process runs whose command line ends so. */
async function isRun(commandEnd: string): Promise<boolean> {
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const command = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (command.replaceAll("\0", " ").trimEnd().endsWith(commandEnd)) return true;
  }
  return false;
}

Deno.test("a launcher that is killed at any moment of upgrades always has a program to run", async () => {
  const directory = await Deno.makeTempDir({ prefix: "mooring-launcher-" });
  const at = new Place(directory, "dash");
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  try {
    at.start(at.program("1.0.0", "works"));
    await at.runs("1.0.0", "current");
    let newest = 1;
    for (let round = 0; round < 12; round++) {
      const before = Number((await at.kept()).current!.split(".")[0]);
      const act = round % 3 === 2 ? "ends" : "works";
      await Deno.copyFile(at.program(`${++newest}.0.0`, act), `${at.programs}/next`);
      await Deno.rename(`${at.programs}/next`, `${at.programs}/candidate`);
      await new Promise((resolve) => setTimeout(resolve, random() * 4000));
      await at.kill();
      const kept = await at.kept();
      assert.ok(
        [before, newest].includes(Number(kept.current?.split(".")[0])),
        `round ${round}: ${JSON.stringify(kept)}`,
      );
      await Deno.remove(`${at.data}/ran`).catch(() => {});
      at.start();
      await eventually("the upgrade is decided", async () => {
        const { candidate, trial } = await at.kept();
        return !candidate && !trial;
      });
      const { current } = await at.kept();
      if (act === "ends") assert.equal(current, `${before}.0.0`);
      // One that was adopted goes on as it was started.
      await eventually("it runs", async () => (await at.ran()).startsWith(`${current} `));
    }
  } finally {
    await at.kill();
    await Deno.remove(directory, { recursive: true });
  }
});
