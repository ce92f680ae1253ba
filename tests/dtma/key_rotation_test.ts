// The app here is a fake of its documented wire (dtma/protocol.ts): a real HTTP server that checks
// signatures and swaps the key, and can be told to fail on either side of that.
import assert from "node:assert/strict";
import { AppClient } from "../../dtma/app_client.ts";
import { DataDirectory } from "../../dtma/data_directory.ts";
import { KeyRotation } from "../../dtma/key_rotation.ts";
import {
  generateSigningKey,
  isProof,
  memoryNonces,
  RotateRequest,
  ROTATION,
  SignatureError,
  verifyRequest,
} from "../../dtma/protocol.ts";

const TOOLBOX = "01890000-0000-7000-8000-00000000000a";
const log = () => {};

class FakeApp implements AsyncDisposable {
  /** Every key that the toolbox had, the last one is of now. */
  keys: string[];
  /** Fails the next request: before the swap, after it, or with what a proxy says. */
  failure: "before" | "after" | "proxy" | null = null;
  #nonces = memoryNonces();
  readonly #http: Deno.HttpServer<Deno.NetAddr>;
  readonly url: string;

  constructor(publicKey: string) {
    this.keys = [publicKey];
    const options = { hostname: "127.0.0.1", port: 0, onListen: () => {}, onError };
    this.#http = Deno.serve(options, (request) => this.#serve(request));
    this.url = `http://127.0.0.1:${this.#http.addr.port}`;
  }

  async #serve(request: Request): Promise<Response> {
    const body = await request.bytes();
    const { failure } = this;
    this.failure = null;
    if (failure === "before") throw new Error("The connection is cut");
    if (failure === "proxy") return new Response("The signature does not match", { status: 401 });
    const signedBy = this.keys.at(-1)!;
    try {
      await verifyRequest(request, body, (id) => id === TOOLBOX ? signedBy : null, this.#nonces);
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      return Response.json({ error: error.message }, { status: 401 });
    }
    const { publicKey, proof } = RotateRequest.parse(JSON.parse(new TextDecoder().decode(body)));
    assert.ok(isProof(ROTATION, TOOLBOX, proof, publicKey));
    if (publicKey !== signedBy) this.keys.push(publicKey);
    if (failure === "after") throw new Error("The connection is cut");
    return Response.json({ publicKey });
  }

  async [Symbol.asyncDispose]() {
    await this.#http.shutdown();
  }
}

const onError = () => new Response("Bad gateway", { status: 502 });

/** A data directory with a key that the app knows. */
async function withToolbox(run: (app: FakeApp, path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempDir({ prefix: "mooring-test-" });
  try {
    const directory = await DataDirectory.open(path);
    await using app = new FakeApp((await directory.key()).publicKey);
    directory.close();
    await run(app, path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

/** A DTMA's start: what it has is what it finds in the directory. */
async function start(app: FakeApp, path: string, broken?: keyof DataDirectory) {
  const directory = await DataDirectory.open(path);
  const key = { keyId: TOOLBOX, privateKey: (await directory.key()).privateKey };
  const fails = (name: keyof DataDirectory) => {
    if (name === broken) return Promise.reject(new Error(`The power went before ${name}`));
  };
  const rotation = new KeyRotation({
    client: new AppClient(app.url),
    key,
    log,
    directory: {
      nextKey: () => directory.nextKey(),
      makeNextKey: () => fails("makeNextKey") ?? directory.makeNextKey(),
      adoptNextKey: () => fails("adoptNextKey") ?? directory.adoptNextKey(),
    },
  });
  return { rotation, key, directory, [Symbol.dispose]: () => directory.close() };
}

async function files(path: string): Promise<string[]> {
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name);
  return names.filter((name) => name !== "lock").toSorted();
}

Deno.test("rotate gives the toolbox another key, in memory and on disk", async () => {
  await withToolbox(async (app, path) => {
    using dtma = await start(app, path);
    await dtma.rotation.rotate();
    assert.equal(app.keys.length, 2);
    const { publicKey, privateKey } = await dtma.directory.key();
    assert.equal(publicKey, app.keys[1]);
    assert.equal(dtma.key.privateKey, privateKey);
    assert.deepEqual(await files(path), ["toolbox.key"]);
    assert.equal((await Deno.stat(`${path}/toolbox.key`)).mode! & 0o777, 0o600);
    await dtma.rotation.settle();
    assert.equal(app.keys.length, 2, "there is nothing to settle");
  });
});

// Each point at which a change of key can be cut off; the next start goes on from the files alone.
for (
  const [point, cut] of [
    ["before a key was made", { broken: "makeNextKey" }],
    ["before the app had it", { failure: "before" }],
    ["after the app had it, before its answer", { failure: "after" }],
    ["after the answer, before the rename", { broken: "adoptNextKey" }],
  ] as [string, { broken?: keyof DataDirectory; failure?: FakeApp["failure"] }][]
) {
  for (const next of ["rotate", "settle"] as const) {
    Deno.test(`a change of key cut off ${point} is ended by ${next} at the next start`, async () => {
      await withToolbox(async (app, path) => {
        const isMade = cut.broken !== "makeNextKey";
        {
          using dtma = await start(app, path, cut.broken);
          app.failure = cut.failure ?? null;
          await assert.rejects(dtma.rotation.rotate());
        }
        assert.deepEqual(
          await files(path),
          isMade ? ["toolbox.key", "toolbox.key.next"] : ["toolbox.key"],
        );
        using again = await start(app, path);
        await again.rotation[next]();
        assert.deepEqual(await files(path), ["toolbox.key"]);
        assert.equal((await again.directory.key()).publicKey, app.keys.at(-1));
        assert.equal(again.key.privateKey, (await again.directory.key()).privateKey);
        assert.equal(app.keys.length, isMade || next === "rotate" ? 2 : 1);
      });
    });
  }
}

Deno.test("a lost answer is made good by the same DTMA too", async () => {
  await withToolbox(async (app, path) => {
    using dtma = await start(app, path);
    app.failure = "after";
    await assert.rejects(dtma.rotation.rotate());
    await dtma.rotation.settle();
    assert.equal((await dtma.directory.key()).publicKey, app.keys.at(-1));
    assert.equal(app.keys.length, 2);
  });
});

Deno.test("a proxy's page or a stranger's key changes nothing", async () => {
  await withToolbox(async (app, path) => {
    using dtma = await start(app, path);
    app.failure = "proxy";
    await assert.rejects(dtma.rotation.rotate());
    const before = await files(path);
    assert.deepEqual(before, ["toolbox.key", "toolbox.key.next"]);
    // The app knows neither key: both stay, for a person to look at.
    app.keys.push((await generateSigningKey()).publicKey);
    await assert.rejects(dtma.rotation.settle(), /signature does not match/);
    assert.deepEqual(await files(path), before);
  });
});
