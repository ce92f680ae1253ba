/** Images of source trees: git repositories over HTTP, and folders; and what a build is held to. */
import assert from "node:assert/strict";
import { DockerError } from "../../dtma/docker.ts";
import { ImageError, Images, type ImagesOptions } from "../../dtma/image.ts";
import { explain } from "../../dtma/image_error.ts";
import type { SourcePackage } from "../../dtma/protocol.ts";
import { converse } from "./converse.ts";
import { BASE, engineTest, leftovers, type Toolbox } from "./engine.ts";

const fixture = (name: string) =>
  Deno.readTextFileSync(new URL(`../fixtures/servers/${name}`, import.meta.url));

const DOCKERFILE =
  `FROM ${BASE} AS build\nUSER 0\nCOPY . /srv\nRUN ["rm","/srv/deploy/Dockerfile"]\n` +
  `FROM ${BASE}\nCOPY --from=build /srv /srv\nWORKDIR /srv\nENTRYPOINT ["node","link.mjs"]\n`;

async function git(directory: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("git", {
    args: ["-c", "user.name=t", "-c", "user.email=t@example.com", ...args],
    cwd: directory,
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim();
}

/** A repository with a server in it. @returns its folder and commit */
async function makeRepository(parent: string, dockerfile = DOCKERFILE) {
  const folder = `${parent}/server`;
  await Deno.mkdir(`${folder}/deploy`, { recursive: true });
  await Deno.writeTextFile(`${folder}/deploy/Dockerfile`, dockerfile);
  for (const name of ["echo.mjs", "server.mjs"]) {
    await Deno.writeTextFile(`${folder}/${name}`, fixture(name));
  }
  await Deno.symlink("echo.mjs", `${folder}/link.mjs`);
  const deep = `${folder}/${"long-name/".repeat(12)}`;
  await Deno.mkdir(deep, { recursive: true });
  await Deno.writeTextFile(`${deep}/file`, "deep");
  await git(folder, "init", "--quiet");
  await git(folder, "add", "--all");
  await git(folder, "commit", "--quiet", "--message=first");
  return { folder, revision: await git(folder, "rev-parse", "HEAD") };
}

/** Serves repositories below a directory by git's own CGI program. */
function serveGit(directory: string) {
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const url = new URL(request.url);
    const child = new Deno.Command("git", {
      args: ["-c", "uploadpack.allowReachableSHA1InWant=true", "http-backend"],
      env: {
        GIT_PROJECT_ROOT: directory,
        GIT_HTTP_EXPORT_ALL: "1",
        PATH_INFO: decodeURIComponent(url.pathname),
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers.get("content-type") ?? "",
        HTTP_CONTENT_ENCODING: request.headers.get("content-encoding") ?? "",
        GIT_PROTOCOL: request.headers.get("git-protocol") ?? "",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const writer = child.stdin.getWriter();
    const body = await request.bytes();
    if (body.length > 0) await writer.write(body);
    await writer.close();
    const { stdout } = await child.output();
    const text = new TextDecoder("latin1").decode(stdout);
    const end = text.indexOf("\r\n\r\n");
    const headers = text.slice(0, end).split("\r\n").map((line) => line.split(": ", 2));
    const status = Number(headers.find(([name]) => name === "Status")?.[1]?.slice(0, 3) ?? 200);
    return new Response(stdout.slice(end + 4), {
      status,
      headers: headers.filter(([name]) => name !== "Status") as [string, string][],
    });
  });
}

const imagesOf = ({ docker, id: toolboxId, dataDir }: Toolbox, options: Partial<ImagesOptions>) =>
  new Images({ docker, toolboxId, dataDir, ...options });

const DANGLING: string[] = [];

engineTest("Images.ensure builds a git repository at its commit", async (toolbox) => {
  const { docker, dataDir } = toolbox;
  const images = imagesOf(toolbox, {});
  const { folder, revision } = await makeRepository(`${dataDir}/work`);
  await Deno.writeTextFile(`${folder}/echo.mjs`, "process.exit(1)");
  await git(folder, "commit", "--all", "--quiet", "--message=a later one is broken");
  await Deno.mkdir(`${dataDir}/served`);
  await git(dataDir, "clone", "--quiet", "--bare", folder, "served/server.git");
  const before = new Set((await docker.listImages(DANGLING, true)).map(({ Id }) => Id));
  const server = serveGit(`${dataDir}/served`);
  try {
    const location = `http://127.0.0.1:${server.addr.port}/server`;
    const wanted: SourcePackage = {
      registry: "source",
      kind: "git",
      location,
      revision,
      dockerfile: "deploy/Dockerfile",
    };
    const startedMs = Date.now();
    const image = await images.ensure(wanted);
    console.log(`build: ${Date.now() - startedMs} ms`);
    assert.deepEqual(image.command, ["node", "link.mjs"]);
    assert.deepEqual([image.hasLauncher, image.workingDirectory], [true, "/srv"]);
    const [listed] = await converse(toolbox, image, [{ method: "tools/list" }]);
    assert.ok(JSON.stringify(listed.result).includes("echo"));
    const left = (await docker.listImages(DANGLING, true)).filter(({ Id }) => !before.has(Id));
    assert.deepEqual(
      left.filter(({ Labels }) => Labels?.["dev.mooring.toolbox"] === toolbox.id),
      [],
    );

    await assert.rejects(
      images.ensure({ ...wanted, revision: "0".repeat(40) }),
      refused(/cannot fetch/, false),
    );
    await assert.rejects(
      images.ensure({ ...wanted, location: `${location}-none` }),
      refused(/cannot fetch/, false),
    );
    await assert.rejects(
      images.ensure({ ...wanted, dockerfile: "Dockerfile" }),
      refused(/no such Dockerfile/, false),
    );
    await images.collect([]);
    assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  } finally {
    await server.shutdown();
  }
});

Deno.test("explain says of an engine's host without git that it needs it", () => {
  // Docker Engine 28's words.
  const said =
    'failed to init repo at /var/lib/docker/tmp/x: : exec: "git": executable file not found';
  const wanted: SourcePackage = {
    registry: "source",
    kind: "git",
    location: "https://git.example/server",
    revision: "0".repeat(40),
    dockerfile: "Dockerfile",
  };
  const limits = { memoryBytes: 1, fileBytes: 1 };
  const error = explain(new DockerError(500, said), wanted, [], limits);
  refused(/cannot fetch https:\/\/git\.example\/server/, false)(error);
  assert.match((error as ImageError).nextStep, /host has git/);
});

engineTest("Images.ensure builds a folder where it is allowed, at its commit", async (toolbox) => {
  const { dataDir } = toolbox;
  const allowed = `${dataDir}/allowed`;
  const { folder, revision } = await makeRepository(allowed);
  const images = imagesOf(toolbox, { sourceDirectories: [allowed] });
  const wanted: SourcePackage = {
    registry: "source",
    kind: "folder",
    location: folder,
    revision,
    dockerfile: "deploy/Dockerfile",
  };
  const image = await images.ensure(wanted);
  await converse(toolbox, image, [{ method: "tools/list" }]);

  await Deno.symlink("/etc", `${allowed}/way-out`);
  const elsewhere = /is not a folder below a directory/;
  const changes: [Partial<SourcePackage>, RegExp][] = [
    [{ location: "/etc" }, elsewhere],
    [{ location: `${allowed}/way-out` }, elsewhere],
    [{ location: `${allowed}/none` }, elsewhere],
    [{ location: `${allowed}/server/long-name` }, /is not a git work tree/],
    [{ revision: "1".repeat(40) }, /is at commit [0-9a-f]{12}, not at 111111111111/],
    [{ location: `${allowed}/../allowed/server` }, /not a package that can be asked for/],
  ];
  for (const [change, reason] of changes) {
    await assert.rejects(images.ensure({ ...wanted, ...change }), refused(reason, false));
  }
  const none = imagesOf(toolbox, {});
  await assert.rejects(
    none.ensure({ ...wanted, dockerfile: "other" }),
    refused(elsewhere, false),
  );
});

/** A folder that a build may use, with a Dockerfile that looks at it, and whatever `fill` puts there. */
async function buildFolder(
  toolbox: Toolbox,
  name: string,
  dockerfile: string,
  fill: (folder: string) => Promise<unknown>,
  onLine: (line: string) => void = () => {},
) {
  const allowed = `${toolbox.dataDir}/${name}`;
  const { folder, revision } = await makeRepository(allowed, dockerfile);
  await fill(folder);
  return await imagesOf(toolbox, { sourceDirectories: [allowed] }).ensure({
    registry: "source",
    kind: "folder",
    location: folder,
    revision,
    dockerfile: "deploy/Dockerfile",
  }, { onLine });
}

const HOSTILE_NAMES = [
  "-rf",
  "$(touch pwned)",
  "`id`; rm -rf ~",
  "two\nlines",
  "tab\tand \u001b[31mred",
  "\u202egnp.exe",
  " . ",
  "..more",
  "quote\"and's",
  "grüße 東京 🦀",
];

engineTest("files with hostile names are files, and a link leads nowhere", async (toolbox) => {
  const secret = `${toolbox.dataDir}/secret-of-the-host`;
  await Deno.writeTextFile(secret, "s3cret-of-the-host");
  const list = "console.log('NAMES ' + JSON.stringify(fs.readdirSync('/srv/names')));" +
    "for (const each of ['out', 'up', 'root']) { let text; " +
    "try { text = fs.readFileSync('/srv/links/' + each, 'utf8') } catch (e) { text = e.code } " +
    "console.log('LINK ' + each + ' ' + text) }";
  const lines: string[] = [];
  await buildFolder(
    toolbox,
    "hostile",
    `FROM ${BASE}\nUSER 0\nCOPY . /srv\nRUN ${JSON.stringify(["node", "-e", list])}\nCMD ["x"]\n`,
    async (folder) => {
      await Deno.mkdir(`${folder}/names`);
      for (const name of HOSTILE_NAMES) await Deno.writeTextFile(`${folder}/names/${name}`, "");
      await Deno.mkdir(`${folder}/links`);
      await Deno.symlink(secret, `${folder}/links/out`);
      await Deno.symlink("../../../../secret-of-the-host", `${folder}/links/up`);
      await Deno.symlink("/", `${folder}/links/root`);
      // What is neither file, folder nor link is left out.
      await new Deno.Command("mkfifo", { args: [`${folder}/names/pipe`] }).output();
    },
    (line) => lines.push(line),
  );
  const [, names] = /^NAMES (.*)$/m.exec(lines.join("\n"))!;
  assert.deepEqual(JSON.parse(names).sort(), HOSTILE_NAMES.toSorted());
  assert.ok(
    lines.includes("LINK out ENOENT") && lines.includes("LINK up ENOENT"),
    lines.join("\n"),
  );
  assert.ok(!lines.join("\n").includes("s3cret-of-the-host"));
});

engineTest("a link to the host's files cannot be copied into an image", async (toolbox) => {
  const secret = `${toolbox.dataDir}/secret-of-the-host`;
  await Deno.writeTextFile(secret, "s3cret-of-the-host");
  const lines: string[] = [];
  const build = buildFolder(
    toolbox,
    "link",
    `FROM ${BASE}\nUSER 0\nCOPY way-out /srv/file\nRUN ["cat","/srv/file"]\nCMD ["x"]\n`,
    (folder) => Deno.symlink(secret, `${folder}/way-out`),
    (line) => lines.push(line),
  );
  await assert.rejects(build, { name: "ImageError" });
  assert.ok(!lines.join("\n").includes("s3cret-of-the-host"));
  const dockerfile = buildFolder(toolbox, "dockerfile", "FROM scratch\n", async (folder) => {
    await Deno.remove(`${folder}/deploy/Dockerfile`);
    await Deno.symlink(secret, `${folder}/deploy/Dockerfile`);
  });
  await assert.rejects(dockerfile, (error) => {
    assert.ok(error instanceof ImageError && !error.reason.includes("s3cret"), String(error));
    return true;
  });
});

engineTest(
  "a folder that is too large, or has too long names, is refused unread",
  async (toolbox) => {
    const dockerfile = `FROM ${BASE}\nCOPY . /srv\nCMD ["x"]\n`;
    const gigabyte = async (folder: string) => {
      using file = await Deno.open(`${folder}/large`, { write: true, create: true });
      await file.truncate(1024 ** 3);
    };
    const before = Deno.memoryUsage().rss;
    await assert.rejects(
      buildFolder(toolbox, "large", dockerfile, gigabyte),
      refused(/more than 64 MiB or 20000 files/, false),
    );
    assert.ok(Deno.memoryUsage().rss - before < 300 * 1024 ** 2, "it was not read into memory");
    const long = (folder: string) => Deno.writeTextFile(`${folder}/${"x".repeat(200)}`, "");
    await assert.rejects(
      buildFolder(toolbox, "long", dockerfile, long),
      refused(/cannot be sent to the engine: Name too long/, false),
    );
    const many = async (folder: string) => {
      await Deno.mkdir(`${folder}/many`);
      for (let index = 0; index < 20_001; index++) {
        Deno.writeTextFileSync(
          `${folder}/many/${index}`,
          "",
        );
      }
    };
    await assert.rejects(
      buildFolder(toolbox, "many", dockerfile, many),
      refused(/more than 64 MiB or 20000 files/, false),
    );
  },
);

engineTest("builds are held to memory, disk, output and time", async (toolbox) => {
  const { docker, dataDir } = toolbox;
  const before = (await docker.listImages(DANGLING, true)).map(({ Id }) => Id);
  let count = 0;
  async function build(step: string[], options: Partial<ImagesOptions>): Promise<unknown> {
    const allowed = `${dataDir}/${count++}`;
    const dockerfile = `FROM ${BASE}\nUSER 0\nRUN ${JSON.stringify(step)}\nCMD ["x"]\n`;
    const { folder, revision } = await makeRepository(allowed, dockerfile);
    return await imagesOf(toolbox, { sourceDirectories: [allowed], ...options }).ensure({
      registry: "source",
      kind: "folder",
      location: folder,
      revision,
      dockerfile: "deploy/Dockerfile",
    });
  }
  const MIB = 1024 * 1024;
  const hoards = "const kept = []; for (;;) kept.push(Buffer.alloc(1e7, 1))";
  await assert.rejects(
    build(["node", "-e", hoards], { limits: { memoryBytes: 128 * MIB } }),
    refused(/more memory than the 128 MiB/, false),
  );
  await assert.rejects(
    build(["sh", "-c", "head -c 20000000 /dev/zero >/large"], { limits: { fileBytes: 10 * MIB } }),
    refused(/a file of over 10 MiB/, false),
  );
  const fills = "i=0; while :; do i=$((i+1)); head -c 5000000 /dev/zero >/f$i; sleep 0.1; done";
  await assert.rejects(
    build(["sh", "-c", fills], { limits: { writtenBytes: 50 * MIB } }),
    refused(/larger than 50 MiB/, false),
  );
  await assert.rejects(
    build(["sh", "-c", "head -c 5000000 /dev/zero >/a"], { limits: { writtenBytes: 4 * MIB } }),
    refused(/larger than 4 MiB/, false),
  );
  await assert.rejects(
    build(["sh", "-c", "while :; do echo noise; done"], { limits: { outputBytes: MIB } }),
    refused(/printed over 1 MiB/, false),
  );
  for (const text of ["'x'.repeat(4096)", "'\\n'.repeat(4096)"]) {
    const floods = `const text = ${text}; (function next() { process.stdout.write(text, next) })()`;
    await assert.rejects(
      build(["node", "-e", floods], { limits: { outputBytes: MIB }, timeoutMs: 20_000 }),
      refused(/printed over 1 MiB/, false),
      "without a line's end, or without a word on it",
    );
  }
  await assert.rejects(
    build(["sleep", "1000"], { timeoutMs: 5000 }),
    refused(/took longer/, false),
  );
  assert.deepEqual((await leftovers(docker, toolbox.id)).images, []);
  const left = (await docker.listImages(DANGLING, true)).filter(({ Id }) => !before.includes(Id));
  // Others may build at the same time: ours say so by their steps.
  for (const { Id } of left) {
    const { Config } = (await docker.inspectImage(Id))!;
    assert.ok(!["x", "sleep"].includes(Config.Cmd?.[0] ?? ""), Id);
  }
});

const refused = (reason: RegExp, retry: boolean) => (error: unknown) => {
  assert.ok(error instanceof ImageError, String(error));
  assert.match(error.reason, reason);
  assert.ok(error.nextStep.length > 10);
  assert.equal(error.retry, retry);
  return true;
};
