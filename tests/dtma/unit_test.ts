/** The systemd unit, by systemd-analyze: systemd itself does not run where these tests do. */
import assert from "node:assert/strict";
import { EXIT_UNWANTED } from "../../dtma/protocol.ts";

const UNIT = new URL("../../dtma/mooring-dtma.service", import.meta.url);
const LAUNCHER = new URL("../../dtma/mooring-dtma.sh", import.meta.url).pathname;
const missing = await Deno.stat("/usr/bin/systemd-analyze").then(() => false, () => true);
if (missing) console.warn("SKIPPED, the systemd unit: systemd-analyze is missing");

async function analyze(...args: string[]) {
  const { success, stdout, stderr } = await new Deno.Command("systemd-analyze", {
    args: ["--no-pager", ...args],
  }).output();
  const said = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("");
  return { success, said };
}

Deno.test({
  name: "the unit is right, and exposes little",
  ignore: missing,
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "mooring-unit-" });
    try {
      const text = await Deno.readTextFile(UNIT);
      assert.ok(text.includes(`RestartPreventExitStatus=${EXIT_UNWANTED}\n`));
      const path = `${directory}/mooring-dtma.service`;
      // What it starts is looked for: here, and not where people install it.
      await Deno.writeTextFile(path, text.replace("/usr/local/bin/mooring-dtma", LAUNCHER));
      const verified = await analyze("verify", path);
      assert.ok(verified.success, verified.said);
      assert.equal(verified.said, "");
      // Of 100; a service that sets nothing has 96.
      const security = await analyze("security", "--offline=yes", "--threshold=20", path);
      assert.ok(security.success, security.said);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
