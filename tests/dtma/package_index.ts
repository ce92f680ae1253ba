/**
 * Stands in for PyPI, which cannot be reached from here: a "simple" index (PEP 503 and 691's HTML)
 * of wheels that are made here, where a build reaches it on Docker's bridge.
 */
import type { Docker } from "../../dtma/docker.ts";

export interface Wheel {
  name: string;
  version: string;
  files: Record<string, string>;
  requires?: string[];
  scripts?: Record<string, string>;
}

/** The file's name and content, by the binary distribution format (PEP 427). */
export async function makeWheel(wheel: Wheel): Promise<[name: string, content: Uint8Array]> {
  const { name, version, files, requires = [], scripts = {} } = wheel;
  const distribution = `${name.replaceAll("-", "_")}-${version}`;
  const info = `${distribution}.dist-info`;
  const lines = (...all: string[]) => all.join("\n") + "\n";
  const content: Record<string, string> = {
    ...files,
    [`${info}/METADATA`]: lines(
      "Metadata-Version: 2.1",
      `Name: ${name}`,
      `Version: ${version}`,
      ...requires.map((each) => `Requires-Dist: ${each}`),
    ),
    [`${info}/WHEEL`]: lines(
      "Wheel-Version: 1.0",
      "Generator: mooring",
      "Root-Is-Purelib: true",
      "Tag: py3-none-any",
    ),
    [`${info}/entry_points.txt`]: lines(
      "[console_scripts]",
      ...Object.entries(scripts).map(([script, target]) => `${script} = ${target}`),
    ),
  };
  content[`${info}/RECORD`] = lines(...Object.keys(content).map((path) => `${path},,`));
  return [`${distribution}-py3-none-any.whl`, await zip(content)];
}

/** A zip of stored files: the little of the format that a wheel needs. */
async function zip(files: Record<string, string>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const [name, body] = [path, text].map((each) => new TextEncoder().encode(each));
    const fields = new DataView(new ArrayBuffer(26));
    fields.setUint16(0, 20, true);
    fields.setUint16(8, 0x21, true); // 1980-01-01
    fields.setUint32(10, crc32(body), true);
    fields.setUint32(14, body.length, true);
    fields.setUint32(18, body.length, true);
    fields.setUint16(22, name.length, true);
    const shared = new Uint8Array(fields.buffer);
    const entry = [[0x50, 0x4b, 3, 4], shared, name, body].map((each) => Uint8Array.from(each));
    const tail = new DataView(new ArrayBuffer(14));
    tail.setUint32(6, 0o644 << 16, true);
    tail.setUint32(10, offset, true);
    directory.push(
      ...[[0x50, 0x4b, 1, 2, 20, 3], shared, new Uint8Array(tail.buffer), name]
        .map((each) => Uint8Array.from(each)),
    );
    parts.push(...entry);
    offset += entry.reduce((sum, each) => sum + each.length, 0);
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, Object.keys(files).length, true);
  end.setUint16(10, Object.keys(files).length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return await new Blob(
    [...parts, ...directory, new Uint8Array(end.buffer)] as Uint8Array<ArrayBuffer>[],
  ).bytes();
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

export interface PackageIndex extends AsyncDisposable {
  url: string;
  /** File name to content; a test may change it. */
  files: Map<string, Uint8Array>;
}

/** Serves files by project name; a build's containers reach it at the bridge's gateway. */
export async function servePackageIndex(docker: Docker, wheels: Wheel[]): Promise<PackageIndex> {
  const files = new Map(await Promise.all(wheels.map(makeWheel)));
  const normal = (name: string) => name.toLowerCase().replaceAll(/[-_.]+/g, "-");
  const server = Deno.serve({ port: 0, hostname: "0.0.0.0", onListen: () => {} }, (request) => {
    const [, kind, name] = new URL(request.url).pathname.split("/").map(decodeURIComponent);
    const file = kind === "files" ? files.get(name) : undefined;
    if (file) return new Response(file as Uint8Array<ArrayBuffer>);
    const found = [...files.keys()].filter((each) => normal(each.split("-")[0]) === name);
    if (kind !== "simple" || found.length === 0) return new Response("Not found", { status: 404 });
    const links = found.map((each) => `<a href="/files/${encodeURIComponent(each)}">${each}</a>`);
    return new Response(`<!DOCTYPE html><html><body>${links.join("\n")}</body></html>`, {
      headers: { "content-type": "text/html" },
    });
  });
  return {
    url: `http://${await bridgeAddress(docker)}:${server.addr.port}/simple`,
    files,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** The host's address on Docker's default bridge. */
export async function bridgeAddress(docker: Docker): Promise<string> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: docker.socketPath } });
  const response = await fetch("http://localhost/networks/bridge", { client });
  return (await response.json()).IPAM.Config[0].Gateway ?? "172.17.0.1";
}
