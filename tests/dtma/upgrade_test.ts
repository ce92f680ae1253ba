/**
 * Upgrades of DTMA on a real engine: the launcher, the bundle that `deno task dtma:bundle` makes, and
 * other versions of it, which are that bundle with another version in it or something broken.
 */
import assert from "node:assert/strict";
import { bundle } from "../../dtma/build.ts";
import { Label } from "../../dtma/policy.ts";
import { PROTOCOL_VERSION } from "../../dtma/protocol.ts";
import { DTMA_VERSION } from "../../dtma/version.ts";
import { eventually } from "../e2e/app.ts";
import { openApp } from "./app.ts";
import { engineTest, leftovers, type Toolbox } from "./engine.ts";

const directory = await Deno.makeTempDir({ prefix: "mooring-bundle-" });
globalThis.addEventListener("unload", () => Deno.removeSync(directory, { recursive: true }));
await bundle(directory);
const LAUNCHER = `${directory}/mooring-dtma`;
const BUNDLE = `${directory}/mooring-dtma.js`;
const bundled = await Deno.readTextFile(BUNDLE);

/** Another version of the program. */
async function program(
  version: string,
  { protocol = PROTOCOL_VERSION, prelude = "", change }: {
    protocol?: number;
    prelude?: string;
    change?: [from: string, to: string];
  } = {},
): Promise<string> {
  const replaced = (text: string, from: string, to: string) => {
    assert.equal(text.split(from).length, 2, `${from} is in the bundle once`);
    return text.replace(from, to);
  };
  let text = replaced(
    bundled,
    `DTMA_VERSION = "${DTMA_VERSION}"`,
    `DTMA_VERSION = "${version}"`,
  );
  text = replaced(
    text,
    `PROTOCOL_VERSION = ${PROTOCOL_VERSION};`,
    `PROTOCOL_VERSION = ${protocol};`,
  );
  if (change) text = text.replaceAll(...change);
  const path = `${directory}/${crypto.randomUUID()}.js`;
  // The launcher asks for the version first: broken is what comes after.
  await Deno.writeTextFile(path, `if (Deno.args[0] !== "--version") { ${prelude} }\n${text}`);
  return path;
}

function environmentOf(dataDir: string, env: Record<string, string> = {}) {
  return { DTMA_DATA_DIR: dataDir, DTMA_DENO: Deno.execPath(), DTMA_REACH: "tunnel", ...env };
}

/** `mooring-dtma run`, as a service manager keeps it running. */
class Launched {
  readonly #child: Deno.ChildProcess;
  readonly #said: Promise<string>;

  constructor(program: string, env: Record<string, string>) {
    this.#child = new Deno.Command("/bin/sh", {
      args: [LAUNCHER, "run", program],
      env,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#said = new Response(this.#child.stderr).text();
  }

  /**
   * The pids of what it has started, which may still be nothing. (Each is above 1: a 0 handed to
   * kill(2) would be this test's own process group.)
   */
  async children(): Promise<number[]> {
    const { pid } = this.#child;
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    return children.split(" ").map(Number).filter((child) => child > 1);
  }

  /** `kill -9` of the launcher alone. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  async stop(): Promise<{ code: number; said: string }> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It ended by itself.
    }
    const { code } = await this.#child.status;
    return { code, said: await this.#said };
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }
}

/** @returns its exit code and what it said */
async function upgrade(program: string, dataDir: string): Promise<[number, string]> {
  const { code, stderr } = await new Deno.Command("/bin/sh", {
    args: [LAUNCHER, "upgrade", program],
    env: environmentOf(dataDir),
  }).output();
  return [code, new TextDecoder().decode(stderr)];
}

const exists = (path: string) => Deno.stat(path).then(() => true, () => false);

engineTest("an upgrade is confirmed or rolled back, and restarts no server", async (box) => {
  const { docker, dataDir } = box;
  await using app = await openApp();
  await using _ = forget(box, app.toolboxId);
  const env = environmentOf(dataDir, {
    MOORING_URL: app.url,
    MOORING_ENROLMENT_TOKEN: app.enrolmentToken,
  });
  const old = await program("0.0.9");
  let launched = new Launched(old, env);
  try {
    const server = await app.deploy("everything");
    const say = () => server.call("echo", { message: "hello" });
    assert.match(await say(), /hello/);
    /** Each container of the server and when it was started. */
    const containers = async () => {
      const found = await docker.listContainers([`${Label.server}=${server.serverId}`]);
      return await Promise.all(found.map(async ({ Id }) => {
        const { State } = await docker.inspectContainer(Id);
        return `${Id} ${State.StartedAt}`;
      }));
    };
    const before = await containers();
    const unharmed = async () => {
      await eventually("the server answers", async () => /hello/.test(await say()));
      assert.deepEqual(await containers(), before);
    };

    const tells = (pattern: RegExp) =>
      eventually(`the page tells ${pattern}`, async () => pattern.test(await app.page()));

    // The page of a toolbox whose DTMA is older, which works.
    assert.match(
      await app.page(),
      new RegExp(`Its DTMA is 0.0.9; this Mooring brings ${DTMA_VERSION}`),
    );
    assert.match(await app.page(), /mooring-dtma upgrade mooring-dtma\.js/);

    const [code, said] = await upgrade(BUNDLE, dataDir);
    assert.equal(code, 0, said);
    assert.match(said, new RegExp(`Version ${DTMA_VERSION} runs`));
    await tells(new RegExp(`Runs DTMA ${DTMA_VERSION}; it was 0.0.9`));
    assert.doesNotMatch(await app.page(), /this Mooring brings/);
    await unharmed();

    const fails = async (candidate: string, version: string, why: RegExp) => {
      const [code, said] = await upgrade(candidate, dataDir);
      assert.equal(code, 1, said);
      assert.match(said, new RegExp(`rolled back: ${version} ${why.source}`));
      await tells(
        new RegExp(`The upgrade to DTMA ${version} was rolled back .*${why.source}.*Events`),
      );
      await tells(
        new RegExp(`Events.*The upgrade to DTMA ${version} was rolled back. ${why.source}`),
      );
      await unharmed();
    };
    const broken = await program("0.2.0", { prelude: 'throw new Error("broken")' });
    await fails(broken, "0.2.0", /It ended with code 1 before it had taken over/);

    // Those that follow never take over, however long they are given.
    await launched.stop();
    launched = new Launched(old, { ...env, DTMA_TRIAL_S: "15" });
    await unharmed();
    const hung = await program("0.3.0", { prelude: "for (;;);" });
    await fails(hung, "0.3.0", /It had not taken over after 15 seconds/);

    const other = await program("2.0.0", { protocol: PROTOCOL_VERSION + 1 });
    const mismatch = `speaks version ${PROTOCOL_VERSION + 1} of the protocol, the app version ` +
      `${PROTOCOL_VERSION}: upgrade the app`;
    await fails(other, "2.0.0", new RegExp(`It had not taken over.*${mismatch}`));
    assert.match(await app.page(), new RegExp(`Events.* The toolbox ${mismatch}`));

    const deaf = await program("0.4.0", { change: ['"tools/list"', '"tools/lost"'] });
    await fails(deaf, "0.4.0", /It had not taken over after 15 seconds. everything: /);

    // Killed in the middle of a trial: the next start goes back.
    const waits = "await new Promise(() => setInterval(() => {}, 9e5))";
    await Deno.rename(await program("0.5.0", { prelude: waits }), `${dataDir}/candidate`);
    await Deno.rename(`${dataDir}/candidate`, `${dataDir}/programs/candidate`);
    let left: number[] = [];
    await eventually("it is on trial, and started", async () => {
      const onTrial = await exists(`${dataDir}/programs/trial`);
      left = await launched.children();
      return onTrial && left.length > 0;
    });
    await launched.kill();
    launched = new Launched(old, env);
    await tells(/The upgrade to DTMA 0.5.0 was rolled back .*Its trial was broken off/);
    await unharmed();
    // One that hangs does not see that its launcher is gone; a service manager ends it.
    for (const pid of left) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // The launcher's own `sleep` has ended.
      }
    }

    assert.equal((await launched.stop()).code, 0);
    assert.deepEqual(await containers(), before);
  } finally {
    await launched.stop();
  }
});

Deno.test("an app and a DTMA of other protocols name the side to upgrade, and meet again", async () => {
  await using app = await openApp();
  const dataDir = await Deno.makeTempDir({ prefix: "mooring-test-" });
  const env = environmentOf(dataDir, {
    MOORING_URL: app.url,
    MOORING_ENROLMENT_TOKEN: app.enrolmentToken,
    DOCKER_HOST: `unix://${dataDir}/no-docker.sock`,
  });
  const tells = (pattern: RegExp) =>
    eventually(`the page tells ${pattern}`, async () => pattern.test(await app.page()));
  const mismatch = (protocol: number, older: string) =>
    `The toolbox speaks version ${protocol} of the protocol, the app version ${PROTOCOL_VERSION}: ` +
    `upgrade ${older}`;
  const older = await program("0.0.1", { protocol: PROTOCOL_VERSION - 1 });
  const newer = await program("9.0.0", { protocol: PROTOCOL_VERSION + 1 });
  try {
    {
      // Not enrolled: its token is not spent.
      const { code, stderr } = await new Deno.Command("/bin/sh", {
        args: [LAUNCHER, "run", older],
        env,
      }).output();
      const said = new TextDecoder().decode(stderr);
      assert.equal(code, 1);
      assert.ok(said.includes(mismatch(PROTOCOL_VERSION - 1, "the toolbox's DTMA")), said);
      assert.doesNotMatch(said, /new enrolment token/);
      await Deno.remove(`${dataDir}/programs`, { recursive: true });
    }
    for (
      const [other, text] of [
        [older, mismatch(PROTOCOL_VERSION - 1, "the toolbox's DTMA")],
        [newer, mismatch(PROTOCOL_VERSION + 1, "the app")],
      ]
    ) {
      await using enrolled = new Launched(BUNDLE, env);
      await tells(/No Docker Engine answers/);
      await enrolled.stop();
      await Deno.remove(`${dataDir}/programs`, { recursive: true });

      const refused = new Launched(other, env);
      await tells(new RegExp(`Another version .*cannot speak with each other. ${text}`));
      const { said } = await refused.stop();
      assert.ok(said.includes(text), said);
      await Deno.remove(`${dataDir}/programs`, { recursive: true });

      await using again = new Launched(BUNDLE, env);
      await eventually(
        "they meet again",
        async () => !(await app.page()).includes("cannot speak with"),
      );
      await again.stop();
    }
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
});

/** What the toolbox, whose id the app made, leaves on the engine. */
function forget({ docker }: Toolbox, toolboxId: string) {
  return {
    async [Symbol.asyncDispose]() {
      const left = await leftovers(docker, toolboxId);
      for (const id of left.containers) await docker.removeContainer(id);
      for (const name of left.networks) await docker.removeNetwork(name);
      for (const id of left.images) await docker.removeImage(id);
    },
  };
}
