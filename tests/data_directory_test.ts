import assert from "node:assert/strict";
import { keyFile, lock, StartError } from "../data_directory.ts";

Deno.test("a file of the data directory that cannot be had is named, with what to do", async () => {
  const directory = await Deno.makeTempDir({ prefix: "mooring-test-" });
  const key = `${directory}/secrets.key`;
  assert.equal(await keyFile(key), await keyFile(key));
  await Deno.remove(key);
  // Directories, since root may open whatever is another user's.
  for (const path of [key, `${directory}/lock`]) await Deno.mkdir(path);
  const said = (error: Error) => {
    assert.ok(error instanceof StartError, String(error));
    assert.match(error.message, /cannot be (read|opened) \(.+chown -R.+DATA_DIR/);
    return true;
  };
  await assert.rejects(keyFile(key), said);
  await assert.rejects(lock(directory), said);
  await Deno.mkdir(`${directory}/other.key.new`);
  await assert.rejects(keyFile(`${directory}/other.key`), /cannot be written/);
  await Deno.remove(directory, { recursive: true });
});
