/**
 * The commands that a toolbox's page shows, run as a person would, but in directories of the test's and
 * without Docker: the one of a checkout is run by fleet_pages_test, that of Docker by compose_test.
 * `sudo` and `systemctl` are stand-ins, which run what they are given or note it.
 */
import assert from "node:assert/strict";
import { bundle } from "../../dtma/build.ts";
import { dtmaCommands } from "../../models/dtma_command.ts";
import { openApp } from "../dtma/app.ts";
import { eventually } from "../e2e/app.ts";

const NAME = /mooring-dtma(\.js|\.service)?$/;

/** A directory with the bundle, the stand-ins and what the command makes. */
async function withPlace(run: (place: string) => Promise<void>) {
  const place = await Deno.makeTempDir({ prefix: "mooring-command-" });
  try {
    await bundle(place);
    await Deno.mkdir(`${place}/bin`);
    const stand = async (name: string, does: string) => {
      await Deno.writeTextFile(`${place}/bin/${name}`, `#!/bin/sh\n${does}\n`, { mode: 0o755 });
    };
    await stand("sudo", 'exec "$@"');
    await stand("systemctl", `echo "$@" >>${place}/systemctl`);
    await run(place);
  } finally {
    await Deno.remove(place, { recursive: true });
  }
}

/** The text with every path of the system below `place`. */
function moved(text: string, place: string): string {
  return text.replaceAll(/\/(var\/lib|var\/run|etc|usr\/local)\//g, `${place}/$1/`);
}

function start(command: string, place: string, env: Record<string, string> = {}) {
  const child = new Deno.Command("sh", {
    args: ["-c", command],
    cwd: place,
    env: {
      PATH: `${place}/bin:${Deno.env.get("PATH")}`,
      DTMA_DENO: Deno.execPath(),
      DOCKER_HOST: `unix://${place}/no-docker.sock`,
      ...env,
    },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const said = new Response(child.stderr).text();
  return {
    async ended() {
      const { code } = await child.status;
      return { code, said: await said };
    },
    async stop() {
      child.kill("SIGTERM");
      const { code } = await child.status;
      assert.equal(code, 0, await said);
    },
  };
}

const enrolled = (app: { page(): Promise<string> }) =>
  eventually("it enrols", async () => (await app.page()).includes("It keeps a link to Mooring"));

Deno.test("the command without a checkout enrols a toolbox", async () => {
  await using app = await openApp();
  await withPlace(async (place) => {
    const { program, container, warning } = dtmaCommands(new URL(app.url), app.enrolmentToken);
    assert.match(warning!, /is an address of Mooring's own machine/);
    assert.match(container, / --stop-timeout 30 /, "the launcher's own is 20 s");
    await Deno.mkdir(`${place}/var/lib/mooring-dtma`, { recursive: true });
    const dtma = start(
      moved(program, place).replace("./mooring-dtma ", "exec ./mooring-dtma "),
      place,
    );
    await enrolled(app);
    await dtma.stop();
  });
});

Deno.test("the commands for systemd install what its unit starts", async () => {
  await using app = await openApp();
  await withPlace(async (place) => {
    const { service } = dtmaCommands(new URL(app.url), app.enrolmentToken);
    for (const [word] of service.matchAll(/mooring-dtma[a-z.]*(?= \/)/g)) assert.match(word, NAME);
    const { code, said } = await start(`set -e\n${moved(service, place)}`, place).ended();
    assert.equal(code, 0, said);
    assert.deepEqual(
      (await Deno.readTextFile(`${place}/systemctl`)).trim().split("\n"),
      ["daemon-reload", "enable --now mooring-dtma"],
    );
    const token = `${place}/etc/mooring/enrolment-token`;
    assert.equal((await Deno.stat(token)).mode! & 0o777, 0o600);

    // As systemd would read the unit.
    const unit = moved(
      await Deno.readTextFile(`${place}/etc/systemd/system/mooring-dtma.service`),
      place,
    );
    const values = (name: string) =>
      [...unit.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map(([, value]) => value);
    const [credential, file] = values("LoadCredential")[0].split(":");
    assert.equal(file, token);
    const specifiers = {
      "%S": `${place}/state`,
      "%C": `${place}/cache`,
      "%d": `${place}/etc/mooring`,
    };
    const settings = [
      ...values("Environment").flatMap((line) => line.split(" ")),
      ...(await Deno.readTextFile(values("EnvironmentFile")[0])).trim().split("\n"),
    ];
    const env = Object.fromEntries(settings.map((each) => {
      const [name, value] = each.split(/=(.*)/);
      return [name, value.replace(/%[SCd]/, (s) => specifiers[s as keyof typeof specifiers])];
    }));
    assert.equal(env.MOORING_ENROLMENT_TOKEN_FILE, `${place}/etc/mooring/${credential}`);
    await Deno.mkdir(env.DTMA_DATA_DIR, { recursive: true });
    const dtma = start(`exec ${values("ExecStart")[0]}`, place, env);
    await enrolled(app);
    await dtma.stop();
  });
});
