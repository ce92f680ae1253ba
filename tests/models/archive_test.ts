import assert from "node:assert/strict";
import { ArchiveError, readArchive } from "../../models/archive.ts";
import { isCatalogFile } from "../../models/catalog_files.ts";

const SERVER = '{"name":"com.example/x","description":"x","version":"1.0.0"}';

/** Files in a folder, packed by the programs that people use. */
async function packed(program: string, files: Record<string, string>): Promise<Uint8Array> {
  const folder = await Deno.makeTempDir({ prefix: "mooring-archive-" });
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(`${folder}/in/${path.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${folder}/in/${path}`, text);
    }
    const [name, ...args] = program.split(" ");
    const { success, stderr } = await new Deno.Command(name, { args, cwd: `${folder}/in` })
      .output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return await Deno.readFile(`${folder}/out`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const LONG = `${"deep/".repeat(30)}server.json`;
const FILES = {
  "repo/servers/x/server.json": SERVER,
  "repo/servers/y/server.yaml": "type: server\nname: y\n",
  "repo/package.json": "{}",
  "repo/node_modules/z/server.json": SERVER,
  "repo/readme.md": "# hi",
  [LONG]: SERVER,
};
const WANTED = [LONG, "repo/servers/x/server.json", "repo/servers/y/server.yaml"].toSorted();

const PACKERS = {
  "tar (GNU)": "tar --format=gnu -czf ../out .",
  "tar (pax)": "tar --format=pax -czf ../out .",
  "tar, unpacked": "tar --format=ustar -cf ../out .",
  "python's zip": "python3 -m zipfile -c ../out .",
};
for (const [name, program] of Object.entries(PACKERS)) {
  Deno.test(`readArchive reads what ${name} packs`, async () => {
    const bytes = await packed(program, FILES);
    const files = await readArchive(bytes, isCatalogFile);
    assert.deepEqual(files.map(({ path }) => path.replace(/^\.\//, "")).toSorted(), WANTED);
    assert.ok(files.some(({ text }) => text === SERVER));
    // Cut off anywhere it says so, or has less; it never hangs and throws nothing else.
    for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 40)) {
      await readArchive(bytes.subarray(0, at), isCatalogFile).catch((error) => {
        assert.ok(error instanceof ArchiveError, String(error));
      });
    }
    // A byte that is another one.
    for (let at = 0; at < bytes.length; at += Math.ceil(bytes.length / 60)) {
      const damaged = bytes.slice();
      damaged[at] ^= 0xff;
      await readArchive(damaged, isCatalogFile).catch((error) => {
        assert.ok(error instanceof ArchiveError, String(error));
      });
    }
  });
}

Deno.test("readArchive stops at what unpacks to too much", async () => {
  const zeros = new Uint8Array(1024 * 1024);
  const bomb = await new Response(
    new ReadableStream({
      start(controller) {
        const header = new Uint8Array(512);
        header.set(new TextEncoder().encode("big.bin"), 0);
        header.set(new TextEncoder().encode("77777777777"), 124);
        header[156] = 0x30;
        header.set(new TextEncoder().encode("ustar"), 257);
        controller.enqueue(header);
        for (let n = 0; n < 300; n++) controller.enqueue(zeros);
        controller.close();
      },
    }).pipeThrough(new CompressionStream("gzip")),
  ).bytes();
  assert.ok(bomb.length < 1024 * 1024);
  await assert.rejects(readArchive(bomb, isCatalogFile), /more than 256 MiB/);

  const zip = await packed(PACKERS["python's zip"], {
    "server.json": " ".repeat(20 * 1024 * 1024),
  });
  assert.ok(zip.length < 100_000);
  await assert.rejects(readArchive(zip, isCatalogFile), /more than 16 MiB/);
});
