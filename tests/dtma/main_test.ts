// The app here is a fake of its documented wire (dtma/protocol.ts); the daemon is the real one, as a
// process of its own with no more permissions than dtma/main.ts says it needs.
import assert from "node:assert/strict";
import { readConfig } from "../../dtma/config.ts";
import { DataDirectory } from "../../dtma/data_directory.ts";
import { dial } from "../../dtma/dial.ts";
import { dialledLink } from "../../dtma/link.ts";
import { Label } from "../../dtma/policy.ts";
import {
  acceptedLink,
  canonicalHash,
  type DesiredRequest,
  type EnrolRequest,
  ENVIRONMENT,
  ErrorCode,
  generateSigningKey,
  type Link,
  linkSocket,
  type Observation,
  PIN_META,
  PROTOCOL_VERSION,
  prove,
  type Report,
  type ServerSpec,
  signRequest,
  tunnelPurpose,
} from "../../dtma/protocol.ts";
import { BASES } from "../../dtma/image_recipes.ts";
import { BASE, engineTest, fixtureSpec } from "./engine.ts";
import { bridgeAddress } from "./package_index.ts";
import { toolCall } from "./stdio_server.ts";

const MAIN = new URL("../../dtma/main.ts", import.meta.url).pathname;
const TOOLBOX = "01890000-0000-7000-8000-00000000000a";
const TOKEN = "token-of-enough-length";
const appKey = await generateSigningKey();

function fakeApp() {
  const enrolments: EnrolRequest[] = [];
  const pulls: DesiredRequest[] = [];
  const links: Link[] = [];
  const takeLink = (request: Request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    acceptedLink(linkSocket(socket), {
      version: PROTOCOL_VERSION,
      self: "the app",
      peer: "DTMA",
      prove: (challenge) => prove(tunnelPurpose(app.toolboxId), challenge, appKey.privateKey),
    }).then((link) => links.push(link), () => {});
    return response;
  };
  const app = {
    enrolments,
    pulls,
    links,
    revoked: false,
    toolboxId: TOOLBOX,
    servers: [] as ServerSpec[],
    /** The last observation of each server. */
    observed: new Map<string, Observation>(),
    url: "",
    [Symbol.asyncDispose]: () => http.shutdown(),
  };
  const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  const http = Deno.serve(options, async (request) => {
    if (request.method === "GET") return takeLink(request);
    const json = await request.json();
    const path = new URL(request.url).pathname;
    if (path === "/toolbox/enrol") {
      enrolments.push(json);
      return Response.json({ toolboxId: app.toolboxId, appPublicKey: appKey.publicKey });
    }
    if (app.revoked) return Response.json({ error: "This toolbox was revoked" }, { status: 403 });
    if (path === "/toolbox/report") {
      for (const each of (json as Report).observations) app.observed.set(each.serverId, each);
      return Response.json({ accepted: true });
    }
    pulls.push(json);
    if (json.haveVersion !== null) await new Promise((resolve) => setTimeout(resolve, 200));
    return Response.json({ version: "1", appPublicKey: appKey.publicKey, servers: app.servers });
  });
  app.url = `http://127.0.0.1:${http.addr.port}`;
  return app;
}

/** Starts the daemon with the permissions that dtma/main.ts names. */
function startDaemon(
  app: string,
  dataDir: string,
  env: Record<string, string> = {},
  socket = `${dataDir}/no-docker.sock`,
) {
  const files = [env.DTMA_SOURCE_DIRECTORIES, Deno.env.get("NODE_EXTRA_CA_CERTS")];
  const read = [dataDir, socket, ...files].filter(Boolean);
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--cached-only",
      `--allow-net=${new URL(app).host},127.0.0.1:0,localhost,unix:${socket}`,
      `--allow-read=${read.join(",")}`,
      `--allow-write=${dataDir},${socket}`,
      `--allow-env=${ENVIRONMENT.join(",")}`,
      MAIN,
    ],
    env: {
      MOORING_URL: app,
      DTMA_DATA_DIR: dataDir,
      DOCKER_HOST: `unix://${socket}`,
      DTMA_PARENT: "stdin",
      ...env,
    },
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const logged = new Response(child.stderr).text();
  return {
    child,
    /** Its exit code and all that it logged. */
    async end() {
      const { code } = await child.status;
      await child.stdin.close().catch(() => {});
      return { code, log: await logged };
    },
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It ended by itself.
      }
      await this.end();
    },
  };
}

async function withDataDir(run: (dataDir: string) => Promise<void>): Promise<void> {
  const dataDir = await Deno.makeTempDir({ prefix: "mooring-test-" });
  try {
    await run(dataDir);
  } finally {
    await Deno.remove(dataDir, { recursive: true });
  }
}

async function waitFor(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 300_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, "It did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const noMount = Deno.uid() === 0 ? null : "to mount a small disk needs root";
if (noMount) console.warn(`SKIPPED, the daemon on a full disk: ${noMount}`);

Deno.test({
  name: `the daemon starts on a full disk${noMount ? ` (skipped: ${noMount})` : ""}`,
  ignore: noMount !== null,
  fn: () =>
    withDataDir(async (disk) => {
      const run = async (...[program, ...args]: string[]) => {
        const { success, stderr } = await new Deno.Command(program, { args }).output();
        assert.ok(success, new TextDecoder().decode(stderr));
      };
      await run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk);
      try {
        await using app = fakeApp();
        {
          await using daemon = startDaemon(app.url, disk, { MOORING_ENROLMENT_TOKEN: TOKEN });
          await waitFor(() => app.pulls.length > 0);
          daemon.child.kill("SIGTERM");
          assert.equal((await daemon.end()).code, 0);
        }
        const full = Deno.writeFile(`${disk}/logs/full`, new Uint8Array(1024 ** 2));
        await assert.rejects(full, /No space left/);
        app.pulls.splice(0);
        await using daemon = startDaemon(app.url, disk);
        const ended = daemon.child.status.then(() => "ended");
        const pulled = waitFor(() => app.pulls.length > 0).then(() => "pulled");
        assert.equal(await Promise.race([ended, pulled]), "pulled");
        daemon.child.kill("SIGTERM");
        assert.match((await daemon.end()).log, /cannot be written: No space left/);
      } finally {
        await run("umount", disk);
      }
    }),
});

Deno.test("the daemon enrols once, says what is amiss with its engine, and stops on TERM", async () => {
  await withDataDir(async (dataDir) => {
    await using app = fakeApp();
    {
      await using daemon = startDaemon(app.url, dataDir, { MOORING_ENROLMENT_TOKEN: TOKEN });
      await waitFor(() => app.pulls.length >= 2);
      const { engine, address } = app.pulls[0].facts;
      assert(engine.state === "absent");
      assert.match(engine.reason, /no Docker socket/);

      const url = `${address}/mcp/${TOOLBOX}`;
      const body = new TextEncoder().encode(JSON.stringify(toolCall("any")));
      const key = { keyId: "app", privateKey: appKey.privateKey };
      const headers = signRequest({ method: "POST", url, body }, key);
      const answer = await (await fetch(url, { method: "POST", headers, body })).json();
      assert.equal(answer.error.code, ErrorCode.serverUnavailable);

      daemon.child.kill("SIGTERM");
      const { code, log } = await daemon.end();
      assert.equal(code, 0, log);
      assert.match(log, /Stopping \(SIGTERM\)/);
    }
    const [key, state] = await Promise.all(
      ["toolbox.key", "state.json"].map((name) => Deno.stat(`${dataDir}/${name}`)),
    );
    assert.deepEqual([key.mode! & 0o777, state.mode! & 0o777], [0o600, 0o600]);

    // A second start, without a token.
    const pulls = app.pulls.length;
    await using again = startDaemon(app.url, dataDir);
    await waitFor(() => app.pulls.length > pulls);
    assert.equal(app.enrolments.length, 1);
    again.child.kill("SIGINT");
    assert.equal((await again.end()).code, 0);
  });
});

Deno.test("the daemon that nobody can dial keeps a link to the app, listening nowhere", async () => {
  await withDataDir(async (dataDir) => {
    await using app = fakeApp();
    const env = { MOORING_ENROLMENT_TOKEN: TOKEN, DTMA_REACH: "tunnel" };
    await using daemon = startDaemon(app.url, dataDir, env);
    await waitFor(() => app.links.length > 0 && app.pulls.length > 0);
    const { reach, address } = app.pulls[0].facts;
    assert.deepEqual([reach, address], ["tunnel", null]);
    const ask = async () => {
      const target = { serverId: TOOLBOX, instance: null };
      return JSON.parse(
        String(await app.links.at(-1)!.call(target, JSON.stringify(toolCall("any")))),
      );
    };
    const { error } = await ask();
    assert.equal(error.code, ErrorCode.serverUnavailable);
    assert.match(error.message, /does not run that server/);

    app.links[0].close("The app is started anew");
    await waitFor(() => app.links.length > 1);
    assert.equal((await ask()).error.code, ErrorCode.serverUnavailable);
    await waitFor(() => app.pulls.at(-1)!.facts.roundTripMs != null);
    assert.equal(app.pulls.at(-1)!.facts.clockWarning, null);

    daemon.child.kill("SIGTERM");
    const { code, log } = await daemon.end();
    assert.equal(code, 0, log);
    assert.match(await app.links[1].closed, /the link was ended|closed/);
  });
});

engineTest(
  "the daemon builds from the registry and the folders that it is set to",
  async (toolbox) => {
    const { docker, id: toolboxId, dataDir } = toolbox;
    if (BASE !== BASES.node) return console.log(`SKIPPED: the daemon's base is ${BASES.node}`);
    const asked: string[] = [];
    await using mirror = Deno.serve(
      { port: 0, hostname: "0.0.0.0", onListen: () => {} },
      (request) => {
        asked.push(decodeURIComponent(new URL(request.url).pathname));
        return new Response("{}", { status: 404 });
      },
    );
    const folders = await Deno.makeTempDir({ prefix: "mooring-test-" });
    await Deno.mkdir(`${folders}/tree`);
    await using app = fakeApp();
    const source = {
      registry: "source",
      kind: "folder",
      revision: "0".repeat(40),
      dockerfile: "Dockerfile",
    } as const;
    const [npm, inside, outside] = app.servers = [
      fixtureSpec("only-on-the-mirror"),
      fixtureSpec("inside", { package: { ...source, location: `${folders}/tree` } }),
      fixtureSpec("outside", { package: { ...source, location: `${dataDir}/tree` } }),
    ];
    app.toolboxId = toolboxId;
    try {
      await using daemon = startDaemon(app.url, dataDir, {
        MOORING_ENROLMENT_TOKEN: TOKEN,
        DOCKER_HOST: `unix://${docker.socketPath}`,
        DTMA_NPM_REGISTRY: `http://${await bridgeAddress(docker)}:${mirror.addr.port}/npm`,
        DTMA_SOURCE_DIRECTORIES: folders,
      }, docker.socketPath);
      const imageOf = (serverId: string) => app.observed.get(serverId)?.layers.image;
      await waitFor(() => app.servers.every((each) => imageOf(each.serverId)?.state === "failed"));
      assert.deepEqual([...new Set(asked)], ["/npm/fixture-only-on-the-mirror"]);
      assert.match(imageOf(npm.serverId)!.detail, /has no package fixture-only-on-the-mirror/);
      assert.match(
        imageOf(inside.serverId)!.detail,
        /is not a git work tree/,
        "it was looked into",
      );
      assert.match(imageOf(outside.serverId)!.detail, /not a folder below a directory that/);
      daemon.child.kill("SIGTERM");
      const { code, log } = await daemon.end();
      assert.equal(code, 0, log);
    } finally {
      await Deno.remove(folders, { recursive: true });
    }
  },
);

engineTest(
  "the daemon that is told to stop takes no more calls, and waits a while for those under way",
  async ({ docker, id: toolboxId, dataDir }) => {
    if (BASE !== BASES.node) return console.log(`SKIPPED: the daemon's base is ${BASES.node}`);
    await using app = fakeApp();
    const spec = fixtureSpec("everything", {
      package: {
        registry: "npm",
        name: "@modelcontextprotocol/server-everything",
        version: "2026.8.31",
        installScripts: false,
      },
      arguments: ["stdio"],
    });
    const crashes = { ...spec, serverId: crypto.randomUUID() };
    app.servers = [spec, crashes];
    app.toolboxId = toolboxId;
    const start = async (reach: "direct" | "tunnel") => {
      app.observed.clear();
      app.pulls.splice(0);
      const daemon = startDaemon(app.url, dataDir, {
        MOORING_ENROLMENT_TOKEN: TOKEN,
        DOCKER_HOST: `unix://${docker.socketPath}`,
        DTMA_REACH: reach,
      }, docker.socketPath);
      await waitFor(() =>
        app.servers.every((each) => app.observed.get(each.serverId)?.layers.tools.state === "ready")
      );
      return daemon;
    };
    const name = "trigger-long-running-operation";
    /** A call that tells of its progress every second. */
    const call = async (steps: number) => {
      const { tools } = app.observed.get(spec.serverId)!;
      const pin = await canonicalHash(tools!.find((each) => each.name === name)!);
      const meta = { [PIN_META]: pin, progressToken: 1 };
      return JSON.stringify(toolCall(name, { duration: steps, steps }, { meta }));
    };
    const target = { serverId: spec.serverId, instance: null };
    const containers = async () => {
      const found = await docker.listContainers([`${Label.server}=${spec.serverId}`]);
      return await Promise.all(found.map(async ({ Id }) => {
        const { State } = await docker.inspectContainer(Id);
        return `${Id} ${State.Running} ${State.StartedAt}`;
      }));
    };
    /** Calls over a link. @returns the answer, when the call is under way */
    const begun = async (link: Link, text: string) => {
      let isBegun = false;
      const answer = link.call(target, text, { onNotification: () => isBegun = true });
      await Promise.race([answer, waitFor(() => isBegun)]);
      return async () => JSON.parse(new TextDecoder().decode(await bytesOf(answer)));
    };
    const key = { keyId: "app", privateKey: appKey.privateKey };

    await using direct = await start("direct");
    const before = await containers();
    const { address } = app.pulls[0].facts;
    const linkUrl = new URL(`${address}/link`);
    const signed = signRequest({ method: "GET", url: linkUrl, body: new Uint8Array() }, key);
    const link = await dialledLink(await dial(linkUrl, signed), {
      version: PROTOCOL_VERSION,
      self: "the app",
      peer: "DTMA",
    });
    const post = async (text: string) => {
      const url = `${address}/mcp/${spec.serverId}`;
      const body = new TextEncoder().encode(text);
      const headers = signRequest({ method: "POST", url, body }, key);
      return await fetch(url, { method: "POST", headers, body });
    };
    const read = async (text: string) =>
      (await post(text)).body!.pipeThrough(new TextDecoderStream()).getReader();
    const rest = async (reader: ReadableStreamDefaultReader<string>) => {
      let text = "";
      for (let read; !(read = await reader.read()).done;) text += read.value;
      return text;
    };
    const listen = JSON.stringify({
      ...{ jsonrpc: "2.0", id: "listens", method: "subscriptions/listen" },
      params: {
        notifications: { toolsListChanged: true },
        _meta: { "io.modelcontextprotocol/protocolVersion": "2026-07-28" },
      },
    });
    const [linked, listening, posted] = await Promise.all([
      begun(link, await call(3)),
      read(listen),
      read(await call(3)),
    ]);
    await Promise.all([listening.read(), posted.read()]);
    direct.child.kill("SIGTERM");
    // Not what the daemon waits for: it ends before those do.
    assert.match(await rest(listening), /"id":"listens","result"/);
    await assert.rejects(link.call(target, await call(1)), { mayHaveRun: false });
    // At the end it does not listen any more.
    assert.equal(await post(await call(1)).then(({ status }) => status, () => 503), 503);
    assert.match(JSON.stringify(await linked()), /completed/);
    assert.match(await rest(posted), /completed/);
    const { code, log } = await direct.end();
    assert.equal(code, 0, log);
    assert.deepEqual(await containers(), before);

    // Over the link that it keeps; one of the calls takes too long.
    await using tunnel = await start("tunnel");
    await waitFor(() => app.links.length > 0);
    const own = app.links.at(-1)!;
    const short = await begun(own, await call(3));
    const long = await begun(own, await call(600));
    tunnel.child.kill("SIGTERM");
    assert.match(JSON.stringify(await short()), /completed/);
    // What befalls a server meanwhile is reported.
    const [{ Id }] = await docker.listContainers([`${Label.server}=${crashes.serverId}`]);
    await docker.killContainer(Id);
    const isTold = () => app.observed.get(crashes.serverId)!.layers.tools.state !== "ready";
    await Promise.race([waitFor(isTold), tunnel.child.status]);
    assert.ok(isTold());
    assert.equal((await long()).error.code, ErrorCode.indeterminate);
    const ended = await tunnel.end();
    assert.equal(ended.code, 0, ended.log);
    assert.deepEqual(await containers(), before);
  },
);

/** What a link answers, as text or bytes. */
async function bytesOf(answer: Promise<string | Uint8Array<ArrayBuffer>>) {
  const got = await answer;
  return typeof got === "string" ? new TextEncoder().encode(got) : got;
}

Deno.test("the daemon that is told to stop does not count what its volumes hold", async () => {
  await withDataDir(async (dataDir) => {
    await using app = fakeApp();
    const volumes = [{ name: "data", path: "/data" }];
    app.servers = [fixtureSpec("keeps", { volumes })];
    // An engine that can only say which it is.
    const asked: string[] = [];
    const socket = `${dataDir}/engine.sock`;
    await using _engine = Deno.serve({ path: socket, onListen: () => {} }, (request) => {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      if (pathname === "/version") return Response.json({ Version: "1", ApiVersion: "1.41" });
      return Response.json({ message: "None" }, { status: 500 });
    });
    const env = { MOORING_ENROLMENT_TOKEN: TOKEN, DOCKER_HOST: `unix://${socket}` };
    await using daemon = startDaemon(app.url, dataDir, env, socket);
    await waitFor(() => app.pulls.length > 1);
    daemon.child.kill("SIGTERM");
    const { code, log } = await daemon.end();
    assert.equal(code, 0, log);
    assert.ok(asked.length > 0);
    assert.deepEqual(asked.filter((path) => path.endsWith("/system/df")), []);
  });
});

Deno.test("the daemon ends when its parent is gone", async () => {
  await withDataDir(async (dataDir) => {
    await using app = fakeApp();
    await using daemon = startDaemon(app.url, dataDir, { MOORING_ENROLMENT_TOKEN: TOKEN });
    await waitFor(() => app.pulls.length > 0);
    await daemon.child.stdin.close();
    const { code, log } = await daemon.end();
    assert.equal(code, 0);
    assert.match(log, /parent process is gone/);
  });
});

Deno.test("the daemon ends when it is revoked, and enrols anew with a new token", async () => {
  await withDataDir(async (dataDir) => {
    await using app = fakeApp();
    {
      await using daemon = startDaemon(app.url, dataDir, { MOORING_ENROLMENT_TOKEN: TOKEN });
      await waitFor(() => app.pulls.length > 0);
      app.revoked = true;
      const { code, log } = await daemon.end();
      assert.equal(code, 3, log);
      assert.match(log, /refuses this toolbox \(This toolbox was revoked\)/);
    }
    await using tokenless = startDaemon(app.url, dataDir);
    const { code, log } = await tokenless.end();
    assert.equal(code, 1);
    assert.match(log, /not enrolled/);

    app.revoked = false;
    await using anew = startDaemon(app.url, dataDir, { MOORING_ENROLMENT_TOKEN: TOKEN });
    await waitFor(() => app.enrolments.length === 2);
    assert(anew);
    assert.notEqual(app.enrolments[1].publicKey, app.enrolments[0].publicKey);
  });
});

Deno.test("the daemon tells all mistakes of its configuration, as JSON if asked", async () => {
  await withDataDir(async (dataDir) => {
    await using daemon = startDaemon("http://127.0.0.1:1", dataDir, {
      MOORING_URL: "http://example.com",
      DTMA_LISTEN: "nowhere",
    });
    const { code, log } = await daemon.end();
    assert.equal(code, 1);
    assert.match(log, /MOORING_URL must be https.*DTMA_LISTEN must be host:port/);
  });
});

Deno.test("readConfig reads every variable", () => {
  assert.deepEqual(
    readConfig({
      MOORING_URL: "https://mooring.example/functions/v1/app/",
      MOORING_ENROLMENT_TOKEN_FILE: "/run/token",
      DTMA_DATA_DIR: "/var/lib/dtma",
      DTMA_LISTEN: "[::]:4700",
      DTMA_ADDRESS: "https://toolbox.example/",
      DOCKER_HOST: "unix:///run/podman.sock",
      LOG_FORMAT: "json",
      DTMA_NPM_REGISTRY: "https://mirror.example/npm/",
      DTMA_PYPI_INDEX: "https://mirror.example/pypi/simple",
      DTMA_NUGET_SOURCE: "http://10.0.0.1:8080/v3/index.json",
      DTMA_SOURCE_DIRECTORIES: "/srv/mcp, /home/ann/My servers/",
      DTMA_SCANNER: "/opt/trivy-1/trivy",
      PYTHON_BASE_IMAGE: "mirror.example/python:3.13-slim",
      DTMA_RUN: "trial.1.2",
      DTMA_ROLLED_BACK: "2026-11-25T15:30:00Z 0.2.0 It ended with code 1",
    }, () => `${TOKEN}\n`),
    {
      appUrl: "https://mooring.example/functions/v1/app",
      enrolmentToken: TOKEN,
      dataDirectory: "/var/lib/dtma",
      listen: { hostname: "::", port: 4700 },
      address: "https://toolbox.example",
      dockerHost: "unix:///run/podman.sock",
      ceilingFile: null,
      egress: { privateNetworks: [] },
      indexes: {
        npm: "https://mirror.example/npm/",
        pypi: "https://mirror.example/pypi/simple",
        nuget: "http://10.0.0.1:8080/v3/index.json",
      },
      baseParents: { python: "mirror.example/python:3.13-slim" },
      sourceDirectories: ["/srv/mcp", "/home/ann/My servers/"],
      scanner: "/opt/trivy-1/trivy",
      reach: "direct",
      endsWithStdin: false,
      run: "trial.1.2",
      rolledBack: {
        at: "2026-11-25T15:30:00Z",
        version: "0.2.0",
        reason: "It ended with code 1",
      },
      logFormat: "json",
    },
  );
});

Deno.test("readConfig tells each mistake, without the value", () => {
  const mistakesOf = (environment: Record<string, string>) => {
    try {
      readConfig({ MOORING_URL: "http://[::1]:1", DTMA_DATA_DIR: "d", ...environment });
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.equal(mistakesOf({}), "");
  assert.match(mistakesOf({ MOORING_URL: "" }), /MOORING_URL is not a URL/);
  assert.match(mistakesOf({ MOORING_URL: "https://user:secret@x.example" }), /without user/);
  assert.match(mistakesOf({ MOORING_URL: "http://127.0.0.1.example.com" }), /must be https/);
  const inside = { MOORING_URL: "http://app:4680", DTMA_PLAIN_HTTP: "app" };
  assert.equal(mistakesOf(inside), "");
  assert.match(mistakesOf({ ...inside, DTMA_PLAIN_HTTP: "" }), /MOORING_URL must be https/);
  assert.match(mistakesOf({ ...inside, MOORING_URL: "http://app.example" }), /must be https/);
  assert.equal(mistakesOf({ DTMA_ROLLED_BACK: "nonsense" }), "", "it is no reason not to start");
  assert.match(mistakesOf({ DTMA_DATA_DIR: "" }), /DTMA_DATA_DIR/);
  assert.match(mistakesOf({ DTMA_LISTEN: "0.0.0.0:80" }), /DTMA_ADDRESS is needed/);
  assert.match(mistakesOf({ DTMA_LISTEN: "127.0.0.1:70000" }), /port over 65535/);
  assert.match(mistakesOf({ DOCKER_HOST: "tcp://1.2.3.4:2375" }), /unix socket/);
  assert.match(mistakesOf({ MOORING_ENROLMENT_TOKEN: "short" }), /not an enrolment token/);
  for (
    const url of [
      "mirror",
      "ftp://m.example",
      "https://ann:secret@m.example/",
      "https://m/?a=secret",
    ]
  ) {
    const said = mistakesOf({
      DTMA_NPM_REGISTRY: url,
      DTMA_PYPI_INDEX: url,
      DTMA_NUGET_SOURCE: url,
    });
    for (const name of ["NPM_REGISTRY", "PYPI_INDEX", "NUGET_SOURCE"]) {
      assert.match(said, new RegExp(`DTMA_${name} must be an https or http URL without user`));
    }
    assert.equal(said.includes("secret"), false);
  }
  for (const path of ["srv", "/", "/srv/../etc", "/srv,relative", "/srv//x", "~/src"]) {
    const said = mistakesOf({ DTMA_SOURCE_DIRECTORIES: path });
    assert.match(said, /DTMA_SOURCE_DIRECTORIES must be absolute paths/, path);
  }
  for (const path of ["trivy", "./grype", "/bin/sh", "/opt/../grype", "/a,/bin/grype", "/trivy/"]) {
    assert.match(
      mistakesOf({ DTMA_SCANNER: path }),
      /DTMA_SCANNER must be the absolute path/,
      path,
    );
  }
  assert.equal(mistakesOf({ DTMA_SCANNER: "/grype" }), "");
  assert.equal(mistakesOf({ DTMA_SOURCE_DIRECTORIES: "", DTMA_NPM_REGISTRY: "" }), "");
  assert.equal(mistakesOf({ MOORING_ENROLMENT_TOKEN: "tiny secret" }).includes("secret"), false);
});

Deno.test("DataDirectory reads the state that a newer version kept", async () => {
  await withDataDir(async (dataDir) => {
    const state = {
      appUrl: "https://mooring.example",
      toolboxId: TOOLBOX,
      appPublicKey: appKey.publicKey,
      epoch: null,
    };
    const newer = JSON.stringify({ ...state, format: 2, ofALaterVersion: { any: [1] } });
    await Deno.writeTextFile(`${dataDir}/state.json`, newer);
    const directory = await DataDirectory.open(dataDir, 0);
    assert.deepEqual(await directory.state(), state);
    directory.close();
  });
});

Deno.test("DataDirectory is held by one at a time, and waits for the one before", async () => {
  await withDataDir(async (dataDir) => {
    const first = await DataDirectory.open(dataDir, 0);
    await assert.rejects(DataDirectory.open(dataDir, 0), /Another DTMA runs on/);
    const second = DataDirectory.open(dataDir);
    first.close();
    (await second).close();
    await assert.rejects(DataDirectory.open("/proc/nowhere", 0), /cannot be written/);
  });
});
