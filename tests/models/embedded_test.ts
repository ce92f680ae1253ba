import assert from "node:assert/strict";
import { openDatabase } from "../../database.ts";
import { connectAsOwner } from "../../models/db.ts";
import { openEmbedded } from "../../models/embedded.ts";

/** Says what was acknowledged, until the database ends this process. */
const FILL = `
  import { openEmbedded } from "${new URL("../../models/embedded.ts", import.meta.url)}";
  import { connectAsOwner } from "${new URL("../../models/db.ts", import.meta.url)}";
  const [directory] = Deno.args;
  await Deno.mkdir(directory + "/socket");
  const sql = connectAsOwner(await openEmbedded(directory + "/postgres", directory + "/socket"));
  await sql\`create table filled (x text)\`;
  console.log("made");
  for (let n = 1;; n++) {
    try {
      await sql\`insert into filled select string_agg(md5(random()::text), '')
        from generate_series(1, 5000)\`;
      console.log(n);
    } catch (error) {
      // No room for a table, but for the log: that is told, and the database goes on.
      if (error.code !== "53100") throw error;
    }
  }
`;

async function run(command: string, ...args: string[]) {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { success, out, err };
}

Deno.test("the embedded database on a full disk ends the process, and has all that it said it kept", async () => {
  const directory = await Deno.makeTempDir({ prefix: "mooring-full-" });
  assert.ok((await run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", directory)).success);
  const script = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(script, FILL);
    await Deno.writeFile(`${directory}/ballast`, new Uint8Array(16 * 1024 * 1024));
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const lock = new URL("../../app.lock", import.meta.url).pathname;
    const filling = await run(
      ...[Deno.execPath(), "run", "--quiet", "-A", "--no-check"] as [string, ...string[]],
      ...[`--config=${config}`, `--lock=${lock}`, script, directory],
    );
    assert.equal(filling.success, false);
    assert.match(filling.err, /The embedded database broke off \(.*No space left on device\)/);
    const kept = Number(filling.out.trim().split("\n").at(-1));
    assert.ok(kept > 0, filling.out);

    const opening = openDatabase({ databaseUrl: null, dataDirectory: directory }, () => {});
    await assert.rejects(opening, /cannot be opened: its disk is full/);
    await Deno.remove(`${directory}/ballast`);
    const embedded = await openEmbedded(`${directory}/postgres`, `${directory}/socket`);
    const sql = connectAsOwner(embedded);
    const [{ rows }] = await sql`select count(*)::int as rows from filled`;
    assert.ok(rows >= kept, `${rows} of ${kept}`);
    await sql.end();
    await embedded.close();
  } finally {
    await run("umount", "--lazy", directory);
    await Deno.remove(directory, { recursive: true });
    await Deno.remove(script);
  }
});
