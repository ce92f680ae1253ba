/**
 * The compiled DTMA, as far as it can be had: denort, the runtime in it, cannot be downloaded here.
 * Deno itself stands in for it, which runs nothing of what is compiled in; so what is looked at is what
 * was compiled in. The bundle runs in upgrade_test.ts and others.
 */
import assert from "node:assert/strict";
import { compile } from "../../dtma/build.ts";
import { ENVIRONMENT } from "../../dtma/protocol.ts";

async function withDenort(path: string, run: (directory: string) => Promise<void>) {
  const before = Deno.env.get("DENORT_BIN");
  const directory = await Deno.makeTempDir({ prefix: "mooring-build-" });
  Deno.env.set("DENORT_BIN", path);
  try {
    await run(directory);
  } finally {
    if (before === undefined) Deno.env.delete("DENORT_BIN");
    else Deno.env.set("DENORT_BIN", before);
    await Deno.remove(directory, { recursive: true });
  }
}

/** What Deno keeps of the permissions at the end of the binary. */
async function permissionsIn(path: string): Promise<Record<string, unknown>> {
  const text = new TextDecoder("latin1").decode(await Deno.readFile(path));
  const [, json] = /"permissions":(\{[^{}]*\}),"location"/.exec(text.slice(-60_000_000)) ?? [];
  assert.ok(json, "the binary has its permissions in it");
  return JSON.parse(json);
}

Deno.test("the compiled DTMA has its permissions in it, and no others", () =>
  withDenort(Deno.execPath(), async (directory) => {
    const environment = {
      MOORING_URL: "https://mooring.example/app",
      DTMA_REACH: "tunnel",
      DTMA_CEILING: "/etc/mooring/ceiling.json",
    };
    await compile(environment, directory);
    const { allow_import: _, ...permissions } = await permissionsIn(
      `${directory}/mooring-dtma-bin`,
    );
    const given = Object.entries(permissions).filter(([, value]) => value !== null);
    const data = "/var/lib/mooring-dtma", socket = "/var/run/docker.sock";
    assert.deepEqual(Object.fromEntries(given), {
      allow_env: ENVIRONMENT,
      allow_net: ["mooring.example:443", "localhost", `unix:${socket}`],
      allow_read: [data, socket, "/etc/mooring/ceiling.json"],
      allow_write: [data, socket],
      deny_write: [`${data}/programs`],
      prompt: false,
    });
  }));

Deno.test("without denort the build says what to do", () =>
  withDenort("/nowhere/denort", async (directory) => {
    await assert.rejects(compile({}, directory), /DENORT_BIN.*deno task dtma:bundle/s);
  }));
