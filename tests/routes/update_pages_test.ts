import assert from "node:assert/strict";
import { v7 } from "uuid";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { CatalogEntry, putBuiltinCatalog } from "../../models/catalog_entries.ts";
import { getServer } from "../../models/servers.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { addMember, KINDS, openWorld } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { openPageApp, ORIGIN, signedIn } from "./page_app.ts";

const made = CatalogEntry.parse({
  ...builtin[0],
  slug: "made",
  title: "Made",
  package: { registry: "npm", name: "@made/up", version: "1.0.0", installScripts: false },
  arguments: [],
  environment: [{ name: "TOKEN", label: "API token", isSecret: true, isRequired: true }],
  network: { hosts: [] },
  volumes: [],
});
const next = {
  ...made,
  package: { ...made.package, version: "1.1.0" },
  network: { hosts: ["api.example.com:443"] },
  environment: [
    ...made.environment,
    { name: "REGION", label: "Region", isRequired: true, choices: ["eu", "us"] },
    { name: "SECOND", label: "Second token", isSecret: true, isRequired: true },
  ],
};

Deno.test({
  name: "the pages of updates and trust",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, user, workspaceId, toolboxId } = world;
    const { cookie } = await signedIn(world, "member");
    const { app, close } = await openPageApp(world);
    const list = (...entries: unknown[]) => putBuiltinCatalog(db, [...builtin, ...entries]);
    const get = async (path: string) => {
      const response = await app.request(ORIGIN + path, { headers: { cookie } });
      assert.equal(response.status, 200, path);
      return await response.text();
    };
    const post = async (path: string, form: Record<string, string>) => {
      const response = await app.request(ORIGIN + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie, origin: ORIGIN },
      });
      const place = response.headers.get("location");
      return { status: response.status, place, html: await response.text() };
    };
    const updateOf = (html: string) => /<section[^>]*id="update"[^]*?<\/section>/.exec(html)![0];
    const trustOf = (html: string) => /<section[^>]*id="trust"[^]*?<\/section>/.exec(html)![0];
    await list(made);
    const deployed = await post("/servers", {
      slug: "made",
      toolboxId,
      idempotencyKey: crypto.randomUUID(),
      name: "Made",
      "env.TOKEN": "token-1",
    });
    const path = deployed.place!, id = path.split("/").at(-1)!;
    await acceptReport(db, toolboxId, {
      epoch: v7(),
      sequence: 1,
      observations: [observation(id, 1, [{ name: "echo", inputSchema: { type: "object" } }])],
      events: [],
      removed: [],
    });

    await t.step("where there is nothing newer nothing is said", async () => {
      assert.match(updateOf(await get(path)), / hidden/);
      assert.doesNotMatch(await get("/servers"), /update to/);
    });

    await t.step("a newer version stands on the list, the page and the entry", async () => {
      await list(next);
      assert.match(await get("/servers"), /href="[^"]*#update">[^]{0,60}update to 1\.1\.0</);
      const card = updateOf(await get(path));
      assert.match(card, /Update to 1\.1\.0/);
      assert.match(
        card,
        /Reaches: +<ins>api\.example\.com:443<\/ins> <span class="badge warn">more/,
      );
      assert.match(card, /name="env\.REGION"/);
      assert.match(card, /type="password"[^>]*>|name="env\.SECOND"/);
      assert.doesNotMatch(card, /name="env\.TOKEN"|token-1/);
      assert.match(await get("/marketplace/made"), /Deployed from it[^]*update to 1\.1\.0/);
    });

    await t.step(
      "what is needed and missing is told beside its field, and nothing is lost",
      async () => {
        const again = await post(`${path}/update`, {
          update: "1.1.0",
          "env.REGION": "eu",
          "env.SECOND": "",
        });
        assert.equal(again.status, 422);
        const card = updateOf(again.html);
        assert.match(card, /Second token is needed/);
        assert.match(card, /<option value="eu" selected/);
        assert.equal((await getServer(db, user, id)).generation, 1);
        const wrong = await post(`${path}/update`, {
          update: "1.1.0",
          "env.REGION": "moon",
          "env.SECOND": "token-2",
        });
        assert.equal(wrong.status, 422);
        assert.match(updateOf(wrong.html), /Region must be one of eu, us/);
        assert.doesNotMatch(wrong.html, /token-2/);
      },
    );

    await t.step("an entry that changed meanwhile has to be read again", async () => {
      const late = await post(`${path}/update`, { update: "1.0.5", "env.REGION": "eu" });
      assert.equal(late.status, 409);
      assert.match(late.html, /has changed since you looked/);
    });

    await t.step("it is skipped and offered again", async () => {
      const skipped = await post(`${path}/update/skip`, { update: "1.1.0" });
      assert.match(skipped.place!, /said=skipped/);
      assert.match(updateOf(await get(path)), /You skipped 1\.1\.0/);
      assert.doesNotMatch(await get("/servers"), /update to/);
      assert.match(
        (await post(`${path}/update/skip`, { update: "" })).place!,
        /said=offered-again/,
      );
    });

    await t.step("it is taken", async () => {
      const taken = await post(`${path}/update`, {
        update: "1.1.0",
        "env.REGION": "eu",
        "env.SECOND": "token-2",
      });
      assert.equal(taken.status, 303);
      assert.match(taken.place!, /said=updating/);
      const { generation, config } = await getServer(db, user, id);
      assert.deepEqual([generation, config.values], [2, { "env.REGION": "eu" }]);
      assert.deepEqual(Object.keys(config.secrets).toSorted(), ["SECOND", "TOKEN"]);
      assert.match(updateOf(await get(path)), / hidden/);
      assert.match(await get(`${path}/configuration`), /May reach[^]*?api\.example\.com:443/);
    });

    await t.step("the trust panel says what is known, and from where", async () => {
      const server = trustOf(await get(path));
      assert.match(server, /badge good">verified/);
      assert.match(server, /Exactly @made\/up 1\.1\.0/);
      assert.match(server, /Its name was checked for the built-in catalog/);
      assert.match(server, /Another version was, not this one/);
      assert.match(server, /Signed provenance[^]*Not known/);
      assert.match(server, /Install scripts, off/);
      assert.match(server, /of 19 controls in force/);
      assert.match(server, /It is given API token, Second token\./);
      assert.match(server, /about \d+ tokens for 1 tool/);
      assert.match(server, /href="[^"]*\/bom"/);
      assert.doesNotMatch(server, /token-\d/);
      const remote = builtin.find(({ package: { registry } }) => registry === "remote")!;
      const entry = trustOf(await get(`/marketplace/${remote.slug}`));
      assert.match(entry, /Not pinned: it runs elsewhere/);
      assert.match(entry, /Called at[^]*, TLS</);
      assert.doesNotMatch(entry, /badge good|Signed provenance/);
    });

    await t.step("verified is a filter like any other", async () => {
      const yes = await get("/marketplace?verified=yes&runtime=npm");
      assert.match(yes, /<option value="yes" selected[^>]*>\s*Verified \(\d+\)/);
      assert.match(yes, /aria-label="Take back: Verified Verified"/);
      const none = await get("/marketplace?verified=yes&runtime=remote");
      assert.match(none, /Nothing matches/);
      assert.match(await get("/marketplace?verified=nonsense"), /entries/);
    });

    await t.step("hostile words of an entry stay words", async () => {
      const hostile = `9.9.9<script>alert(1)</script>\u202e`;
      await owner`update public.catalog_entries set version = ${hostile}, updated_at = now() + interval '1 day',
        entry = jsonb_set(entry, '{package,name}', '"@made/another"') where slug = 'made'`;
      // What a form sends back is sent as it came.
      const html = (await get(path)).replace(/<input type="hidden"[^>]*>/g, "");
      assert.doesNotMatch(html, /<script>alert|\u202e/);
      assert.match(updateOf(html), /Another package/);
      assert.match(updateOf(html), /name="env\.TOKEN"/, "secrets do not go along");
      assert.doesNotMatch(await get("/servers"), /<script>alert|\u202e/);
      assert.doesNotMatch(await get("/marketplace/made"), /<script>alert|\u202e/);
    });

    await t.step("a viewer is refused, and a stranger finds nothing", async () => {
      await owner`update public.members set role = 'viewer' where workspace_id = ${workspaceId} and user_id <> ${user.userId}`;
      assert.equal((await post(`${path}/update`, { update: "1.1.0" })).status, 403);
      assert.equal((await post(`${path}/update/skip`, { update: "" })).status, 403);
      await owner`delete from public.members where workspace_id = ${workspaceId} and user_id <> ${user.userId}`;
      const other = v7();
      await owner`insert into public.workspaces (id, name) values (${other}, 'Other')`;
      const [{ user_id: bea }] = await owner<{ user_id: string }[]>`
        select user_id from public.profiles where email = 'bea@example.com'`;
      await addMember(world, other, bea, "owner");
      assert.equal((await post(`${path}/update`, { update: "1.1.0" })).status, 404);
      assert.equal((await post(`${path}/update/skip`, { update: "" })).status, 404);
    });

    await close();
    await world.close();
  },
});
