import assert from "node:assert/strict";
import { relative } from "node:path";
import { readMigrations } from "../../database.ts";
import { bundle } from "../../supabase/bundle.ts";
import { readEdgeConfig } from "../../supabase/functions/app/config.ts";
import { NEWEST_MIGRATION } from "../../supabase/functions/app/newest_migration.ts";
import { asReached, clientIpOf } from "../../supabase/functions/app/request.ts";
import { CallRecorder } from "../../models/calls.ts";
import { createLog } from "../../models/log.ts";
import { putBuiltinCatalogOnce } from "../../models/catalog_entries.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { SUPABASE } from "../models/databases.ts";

const SECRETS = {
  DATABASE_URL: "postgres://mooring_app.ref:p@aws-0.pooler.supabase.com:6543/postgres",
  SECRETS_KEY: `one:${btoa("0123456789abcdef0123456789abcdef")}`,
  BASE_URL: "https://mooring.example/functions/v1/app",
  SUPABASE_URL: "https://ref.supabase.co",
  SUPABASE_ANON_KEY: "anon",
};

Deno.test("bundle leaves nothing to be deployed of what it refuses", async () => {
  const folder = await Deno.makeTempDir({ prefix: "mooring-bundle-" });
  await Deno.writeTextFile(`${folder}/index.ts`, 'console.log("POST /containers/create");');
  const functions = new URL("../../supabase/functions/", import.meta.url).pathname;
  const file = `${folder}/bundle.js`;
  const refused = bundle(relative(functions, folder), file);
  await assert.rejects(refused, /it holds the Docker Engine's API/);
  await assert.rejects(Deno.stat(file), Deno.errors.NotFound);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("the function knows the newest migration", async () => {
  assert.equal(NEWEST_MIGRATION, (await readMigrations()).at(-1)!.version);
});

Deno.test("readEdgeConfig tells all that is wrong with the secrets, and no value of theirs", () => {
  const config = readEdgeConfig({ ...SECRETS, OWNER_EMAIL: "ann@example.com" });
  assert.equal(config.publishableKey, "anon");
  assert.equal(config.ownerEmail, "ann@example.com");
  assert.deepEqual(config.oauthPrivateHosts, []);
  const hosts = { OAUTH_PRIVATE_HOSTS: "Login.lan , ,10.0.0.1", MODEL_PRIVATE_HOSTS: " " };
  const near = readEdgeConfig({ ...SECRETS, ...hosts, OWNER_EMAIL: " " });
  assert.deepEqual(near.oauthPrivateHosts, ["login.lan", "10.0.0.1"]);
  assert.deepEqual([near.modelPrivateHosts, near.ownerEmail], [[], null]);
  const keys = { ...SECRETS, SUPABASE_PUBLISHABLE_KEYS: '{"default":"sb_publishable_x"}' };
  assert.equal(readEdgeConfig(keys).publishableKey, "sb_publishable_x");

  const wrong = {
    ...SECRETS,
    DATABASE_URL: "postgres://postgres:hidden@x/y",
    SECRETS_KEY: "hidden",
  };
  assert.throws(() => readEdgeConfig(wrong), (error: Error) => {
    assert.match(error.message, /DATABASE_URL must start with postgres:\/\/mooring_app/);
    assert.match(error.message, /SECRETS_KEY must be/);
    assert.doesNotMatch(error.message, /hidden/);
    return true;
  });
  const { SUPABASE_ANON_KEY: _, ...keyless } = SECRETS;
  assert.throws(() => readEdgeConfig(keyless), /SUPABASE_PUBLISHABLE_KEY is needed/);
  assert.throws(() => readEdgeConfig({}), /DATABASE_URL is needed\n.*BASE_URL must be/);
});

Deno.test("asReached puts a request at the address that the app is reached at", async () => {
  const path = (url: string, base = SECRETS.BASE_URL) =>
    asReached(new Request(url), new URL(base)).url;
  const base = "https://mooring.example/functions/v1/app";
  assert.equal(path("http://inside:8000/app/servers?a=1"), `${base}/servers?a=1`);
  assert.equal(path("http://inside:8000/app"), base);
  assert.equal(path("http://inside:8000/functions/v1/app/servers"), `${base}/servers`);
  assert.equal(path("http://inside:8000/apples"), `${base}/apples`);
  assert.equal(path("http://inside/servers", "https://m.example/"), "https://m.example/servers");
  assert.equal(
    path("http://x//evil.example/", "https://m.example/"),
    "https://m.example//evil.example/",
  );
  const posted = asReached(
    new Request("http://x/app/a", { method: "POST", body: "all of it", headers: { a: "b" } }),
    new URL(base),
  );
  assert.deepEqual([posted.method, posted.headers.get("a")], ["POST", "b"]);
  assert.equal(await posted.text(), "all of it");
  const forwarded = new Request("http://x", {
    headers: { "x-forwarded-for": "192.0.2.7, 10.0.0.1" },
  });
  assert.equal(clientIpOf(forwarded), "192.0.2.7");
});

Deno.test({
  name: "an isolate is told of calls that are not written yet, until they are",
  ignore: SUPABASE.ignore,
  async fn() {
    const { db, close } = await SUPABASE.open();
    try {
      const works: Promise<void>[] = [];
      const log = createLog("text", () => {});
      const calls = new CallRecorder(db, log, null, (work) => works.push(work));
      const call = {
        workspaceId: crypto.randomUUID(),
        agentId: null,
        serverId: null,
        serverSlug: "demo",
        tool: "echo",
        via: "bridge" as const,
        startedAt: new Date(),
        durationMs: 1,
        outcome: "ok" as const,
        error: null,
        requestBytes: 1,
        responseBytes: 1,
      };
      calls.record(call);
      calls.record(call);
      assert.equal(works.length, 1, "of each batch once");
      await works[0];
      calls.record(call);
      assert.equal(works.length, 2);
      await works[1];
    } finally {
      await close();
    }
  },
});

Deno.test({
  name: "the built-in catalog is written once for each version",
  ignore: SUPABASE.ignore,
  async fn() {
    const { db, owner, close } = await SUPABASE.open();
    try {
      const entries = async () =>
        (await owner`select slug, updated_at from catalog_entries order by slug`).length;
      await putBuiltinCatalogOnce(db, builtin);
      assert.equal(await entries(), builtin.length);
      await owner`delete from catalog_entries`;
      await putBuiltinCatalogOnce(db, builtin);
      assert.equal(await entries(), 0, "this version was written");
      await putBuiltinCatalogOnce(db, builtin.slice(1));
      assert.equal(await entries(), builtin.length - 1);
    } finally {
      await close();
    }
  },
});
