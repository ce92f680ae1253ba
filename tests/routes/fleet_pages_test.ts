import assert from "node:assert/strict";
import { createApp } from "../../app.ts";
import { ENVIRONMENT, EXIT_UNWANTED, generateSigningKey } from "../../dtma/protocol.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { openOutside } from "../../models/outside.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { deployServer, getServer } from "../../models/servers.ts";
import { enrolToolbox, listToolboxes, toolboxKey } from "../../models/toolboxes.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";

const FACTS = {
  dtmaVersion: "0.1.0",
  protocolVersion: 2,
  reach: "tunnel" as const,
  address: null,
  engine: {
    state: "ready" as const,
    version: "28.1.0",
    apiVersion: "1.51",
    os: "Linux",
    architecture: "x86_64",
    cpus: 4,
    memoryBytes: 4 * 1024 ** 3,
  },
};
const ROOT = new URL("../../", import.meta.url).pathname;
const HOSTILE = `<script>alert(1)</script>"'`;

/** The app over HTTP, and people of each role who are signed in. */
async function openApp() {
  const world = await openWorld(KINDS[0]);
  const { db, owner, workspaceId, identity } = world;
  const cookies: Record<string, string> = {};
  for (const role of ["owner", "admin", "member", "viewer"]) {
    const made = await identity.createAccount(`${role}@e.com`, role, "a long enough password");
    cookies[role] = made.getSetCookie()[0].split(";")[0];
    const person = (await identity.userOf(new Headers({ cookie: cookies[role] })))!;
    await owner`
      insert into public.members (workspace_id, user_id, role)
      values (${workspaceId}, ${person.userId}, ${role})`;
  }
  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const calls = new CallRecorder(db, log);
  const changes = new Changes(db);
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  let serve = (_request: Request): Response | Promise<Response> =>
    new Response(null, { status: 503 });
  const http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => serve(request),
  );
  const baseUrl = new URL(`http://127.0.0.1:${http.addr.port}`);
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey: testKey,
    outside: openOutside(),
    appSigningKey,
    changes,
    links: null,
    calls,
    log,
    baseUrl,
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });
  serve = (request) => app.fetch(request);
  const as = (role: string) => ({
    async get(path: string) {
      const response = await app.request(baseUrl.origin + path, {
        headers: { cookie: cookies[role] },
      });
      return { status: response.status, html: await response.text() };
    },
    async post(path: string, form: Record<string, string> = {}) {
      const response = await app.request(baseUrl.origin + path, {
        method: "POST",
        body: new URLSearchParams(form),
        headers: { cookie: cookies[role], origin: baseUrl.origin },
      });
      const location = response.headers.get("location");
      return { status: response.status, location, html: await response.text() };
    },
    /** A live page, read until it says what is wanted. */
    async live(path: string) {
      const headers = { cookie: cookies[role] };
      const response = await app.request(baseUrl.origin + path, { headers });
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      return {
        async until(wanted: RegExp) {
          while (!wanted.test(text)) {
            const { done, value } = await reader.read();
            if (done) throw new Error(`The page ended without ${wanted}`);
            text += value;
          }
          const seen = text;
          text = "";
          return seen;
        },
        [Symbol.asyncDispose]: () => reader.cancel(),
      };
    },
  });
  return {
    ...world,
    baseUrl,
    logged,
    as,
    async [Symbol.asyncDispose]() {
      await http.shutdown();
      await calls.flush();
      await changes.close();
      await world.close();
    },
  };
}

/** Runs the command as a person would, but in a directory of the test's and without Docker. */
function run(command: string, directory: string) {
  const child = new Deno.Command("sh", {
    args: [
      "-c",
      command.replaceAll("/var/lib/mooring-dtma", directory)
        .replaceAll("/var/run/docker.sock", `${directory}/no-docker.sock`)
        .replace("MOORING_URL", "exec env MOORING_URL"),
    ],
    cwd: ROOT,
    env: { DOCKER_HOST: `unix://${directory}/no-docker.sock` },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const said = new Response(child.stderr).text();
  const ended = child.status.then(async ({ code }) => ({ code, said: await said }));
  return {
    child,
    end: () => ended,
    /** What is waited for, unless it ends before. */
    unless: <T>(wanted: Promise<T>): Promise<T> =>
      Promise.race([wanted, ended.then(({ said }) => Promise.reject(new Error(said)))]),
  };
}

const commandIn = (html: string) =>
  /<pre id="command"[^>]*><code>([^<]*)/.exec(html)?.[1].replaceAll("&amp;", "&")
    .replaceAll("&#39;", "'");

Deno.test({
  name: "the toolbox pages",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using app = await openApp();
    const { db, user, owner, workspaceId } = app;
    const admin = app.as("admin");
    const named = async (name: string) =>
      (await listToolboxes(db, user, workspaceId)).find((box) => box.name === name)!;

    /** A toolbox that was enrolled, by a DTMA that is not there. */
    const add = async (name: string, memoryMiB: number) => {
      const made = await admin.post("/toolboxes", { name });
      const token = /TOKEN=(mte_[\w-]+)/.exec(made.html)![1];
      const { publicKey } = await generateSigningKey();
      const engine = { ...FACTS.engine, memoryBytes: memoryMiB * 1024 ** 2 };
      return await enrolToolbox(db, { token, publicKey, facts: { ...FACTS, engine } });
    };

    await t.step("only owners and admins add a toolbox; others read why", async () => {
      for (const role of ["member", "viewer"]) {
        const page = await app.as(role).get("/toolboxes");
        assert.match(page.html, /Owners and admins of the workspace add toolboxes/);
        assert.doesNotMatch(page.html, /action="\/toolboxes"/);
        const answer = await app.as(role).post("/toolboxes", { name: "Mine" });
        assert.equal(answer.status, 403);
        assert.match(
          answer.html,
          /Only owners and admins of the workspace can change its toolboxes/,
        );
      }
    });

    await t.step("a name that does not hold comes back with the form", async () => {
      const taken = await admin.post("/toolboxes", { name: "This machine" });
      assert.equal(taken.status, 422);
      assert.match(taken.html, /has a toolbox of this name/);
      const hostile = await admin.post("/toolboxes", { name: HOSTILE.repeat(5) });
      assert.equal(hostile.status, 422);
      assert.equal(hostile.html.includes("<script>alert"), false);
    });

    await t.step(
      "the command is shown once, and enrols a real DTMA; the page says so",
      async () => {
        const made = await admin.post("/toolboxes", { name: "Rack 1" });
        assert.equal(made.status, 200);
        const command = commandIn(made.html)!;
        const token = /MOORING_ENROLMENT_TOKEN=(mte_\S+)/.exec(command)![1];
        const { id } = await named("Rack 1");
        const page = await admin.get(`/toolboxes/${id}`);
        assert.equal(page.html.includes(token), false);
        assert.match(page.html, /Make a new command/);

        const path = /hx-sse:connect="([^"]+)"/.exec(made.html)![1];
        assert.equal(path.includes(token), false);
        await using live = await admin.live(path);
        const first = await live.until(/box-events[^]*\n\n/);
        assert.doesNotMatch(first, /hx-target="#enrolment"/, "the command stays");

        const directory = await Deno.makeTempDir({ prefix: "mooring-test-" });
        const dtma = run(command, directory);
        await dtma.unless(live.until(/<strong>Enrolled\.<\/strong>/));
        await dtma.unless(live.until(/No Docker Engine answers/));

        // Its key is changed while it runs, and is the one that the app has.
        const keyIn = async (path: string) =>
          (await Deno.readTextFile(`${path}/toolbox.key`)).trim().split("\n")[1];
        const before = await keyIn(directory);
        assert.equal((await toolboxKey(db, id))!.publicKey, before);
        const asked = await admin.post(`/toolboxes/${id}/key`);
        assert.equal(asked.location, `/toolboxes/${id}?said=key-asked`);
        await dtma.unless(live.until(/Changed its key/));
        while (await keyIn(directory) === before) await new Promise((r) => setTimeout(r, 10));
        assert.equal((await toolboxKey(db, id))!.publicKey, await keyIn(directory));

        // A copy of its data directory, started later, takes its place; the first says so and ends.
        const copy = await Deno.makeTempDir({ prefix: "mooring-test-" });
        for (const name of ["toolbox.key", "state.json"]) {
          await Deno.copyFile(`${directory}/${name}`, `${copy}/${name}`);
        }
        const second = run(command, copy);
        const overtaken = await second.unless(dtma.end());
        assert.equal(overtaken.code, EXIT_UNWANTED, overtaken.said);
        assert.match(
          overtaken.said,
          /Another DTMA with this toolbox's key started later, so this one stops/,
        );
        await second.unless(live.until(/Two DTMAs ran with this toolbox&#39;s key/));
        second.child.kill("SIGTERM");
        const last = await second.end();
        assert.equal(last.code, 0, last.said);
        const said = overtaken.said + last.said;
        assert.match(said, /Enrolled as toolbox/);
        assert.match(said, /This toolbox has a new key/);
        await Deno.remove(directory, { recursive: true });
        await Deno.remove(copy, { recursive: true });
        assert.equal((await named("Rack 1")).isEnrolled, true);

        const everything = [...app.logged, said].join("\n");
        assert.equal(everything.includes(token), false, "no log has it");
        const rows = await owner`select message from public.events`;
        assert.equal(JSON.stringify(rows).includes(token), false, "no event has it");
      },
    );

    await t.step("the command names what a DTMA reads", async () => {
      const { id } = await named("Rack 1");
      const { status, html } = await admin.post(`/toolboxes/${id}/token`);
      assert.equal(status, 200);
      assert.match(html, /the key that the toolbox has now stops working/);
      const command = commandIn(html)!;
      assert.match(command, new RegExp(`--allow-env=${ENVIRONMENT.join(",")} `));
      const main = await Deno.readTextFile(`${ROOT}dtma/main.ts`);
      for (const [permission] of command.matchAll(/--allow-[a-z]+=/g)) {
        assert.ok(main.includes(permission), permission);
      }
      assert.equal(command.match(/--allow-/g)!.length, main.match(/--allow-[a-z]+=/g)!.length);
      assert.match(html, /is an address of Mooring&#39;s own machine/);
      for (const role of ["member", "viewer"]) {
        assert.equal((await app.as(role).post(`/toolboxes/${id}/token`)).status, 403);
      }
    });

    await t.step("a toolbox's page tells of its host, and its forms change it", async () => {
      const id = await add("Rack 9", 4096);
      await owner`update public.toolboxes set last_seen_at = now(), facts = ${
        JSON.stringify({
          ...FACTS,
          roundTripMs: 12,
          clockOffsetMs: -2500,
        })
      }::text::jsonb where id = ${id}`;
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId: id,
        slug: "everything",
        name: HOSTILE,
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const { html } = await admin.get(`/toolboxes/${id}`);
      for (
        const words of [
          /28\.1\.0 \(API 1\.51\)/,
          /It keeps a link to Mooring/,
          /<dd>12 ms<\/dd>/,
          /2\.50 s behind Mooring/,
          /512\.0 MiB of 4\.0 GiB/,
          new RegExp(`href="/servers/${serverId}"`),
        ]
      ) assert.match(html, words);
      assert.equal(html.includes("<script>alert"), false);

      const bad = await admin.post(`/toolboxes/${id}/labels`, { labels: `site=x\n${HOSTILE}` });
      assert.equal(bad.status, 422);
      assert.match(bad.html, /site=x\n/);
      assert.match(bad.html, /is no label: write key=value/);
      assert.equal(bad.html.includes("<script>alert"), false);
      assert.equal(
        (await admin.post(`/toolboxes/${id}/labels`, { labels: "site=<b>" })).location,
        `/toolboxes/${id}?said=labelled`,
      );
      assert.match((await admin.get("/toolboxes")).html, /site=&lt;b&gt;/);
      assert.equal((await admin.post(`/toolboxes/${id}/name`, { name: "" })).status, 422);
      await admin.post(`/toolboxes/${id}/name`, { name: "Rack one" });
      assert.equal((await named("Rack one")).id, id);

      for (const role of ["member", "viewer"]) {
        const seen = await app.as(role).get(`/toolboxes/${id}`);
        assert.doesNotMatch(seen.html, />Rename<|>Revoke<|>Drain</);
        for (const act of ["name", "labels", "drain", "undrain", "key", "revoke", "remove"]) {
          const form = { name: "x", labels: "", confirmation: "Rack one" };
          const answer = await app.as(role).post(`/toolboxes/${id}/${act}`, form);
          assert.equal(answer.status, 403, `${role} ${act}`);
          assert.match(answer.html, /Only owners and admins/);
        }
      }
    });

    await t.step("drain, revoke and remove lead through the page, in this order", async () => {
      const { id } = await named("Rack one");
      await using live = await admin.live(`/toolboxes/${id}/live`);
      await live.until(/box-events[^]*\n\n/);
      await admin.post(`/toolboxes/${id}/drain`);
      await live.until(/No new server is placed here/);
      assert.match((await admin.get(`/toolboxes/${id}`)).html, /Undrain/);
      assert.equal((await admin.post(`/toolboxes/${id}/remove`, {})).status, 409);
      const before = await admin.get(`/toolboxes/${id}`);
      assert.match(before.html, /Its key is refused from now on, for good\. Its containers run on/);
      await admin.post(`/toolboxes/${id}/revoke`);
      await live.until(/Toolbox unreachable/);
      const wrong = await admin.post(`/toolboxes/${id}/remove`, { confirmation: "rack" });
      assert.equal(wrong.status, 422);
      assert.match(wrong.html, /<details class="confirm" open/);
      assert.match(wrong.html, /not the toolbox&#39;s name/);
      assert.match(wrong.html, /<input[^>]* name="confirmation"[^>]* value="rack"/);
      const gone = await admin.post(`/toolboxes/${id}/remove`, { confirmation: "Rack one" });
      assert.equal(gone.location, "/toolboxes?said=toolbox-removed");
      assert.equal((await admin.get(`/toolboxes/${id}`)).status, 404);
      const local = await admin.post(`/toolboxes/${app.toolboxId}/revoke`);
      assert.equal(local.status, 409);
      assert.match(local.html, /cannot be revoked: drain it instead/);
      assert.doesNotMatch((await admin.get(`/toolboxes/${app.toolboxId}`)).html, />Revoke</);
    });

    await t.step("the deploy form chooses a toolbox, and says why others do not fit", async () => {
      const member = app.as("member");
      const form = async () => (await member.get("/marketplace/everything")).html;
      await admin.post(`/toolboxes/${app.toolboxId}/drain`);
      // A choice that does not answer now is one nevertheless.
      assert.match(await form(), /You can deploy now on one that does not answer yet/);
      await admin.post(`/toolboxes/${(await named("Rack 1")).id}/drain`);
      assert.match(await form(), /No toolbox can take it now\. This machine is drained/);
      assert.doesNotMatch(await form(), /<button>Deploy/);
      await add("Small", 256);
      assert.match(await form(), /Small has 256 MiB of memory that no server was promised/);
      const large = await add("Large", 4096);
      const html = await form();
      assert.match(html, /<option value="" selected="">Wherever fits best \(now Large\)/);
      assert.match(html, new RegExp(`<option value="${large}">Large`));
      assert.match(html, /disabled=""[^>]*>This machine/);
      assert.match(html, /Small has 256 MiB/);
      assert.doesNotMatch(html, /No toolbox can take it now/);
      const deploy = (toolboxId: string, label = "") =>
        member.post("/servers", {
          slug: "everything",
          toolboxId,
          label,
          idempotencyKey: crypto.randomUUID(),
          name: "Everything",
        });
      const { status, location } = await deploy("");
      assert.equal(status, 303);
      const server = await getServer(db, user, location!.split("/").at(-1)!);
      assert.equal(server.toolboxId, large);
      const drained = await deploy(app.toolboxId);
      assert.equal(drained.status, 422);
      assert.match(drained.html, /This machine is drained: undrain it to place servers there/);

      // By a label, of those that the toolboxes have.
      assert.doesNotMatch(html, /for="label"/, "none has any");
      const small = (await named("Small")).id;
      await admin.post(`/toolboxes/${small}/labels`, { labels: "size=small" });
      await admin.post(`/toolboxes/${large}/labels`, { labels: "size=large\nsite=<b>" });
      assert.match(await form(), /<label for="label">Only toolboxes with the label/);
      assert.match(await form(), /<option value="site=&lt;b&gt;">site=&lt;b&gt; \(1 toolbox\)/);
      const onLarge = await deploy("", "size=large");
      assert.equal(
        (await getServer(db, user, onLarge.location!.split("/").at(-1)!)).toolboxId,
        large,
      );
      const full = await deploy("", "size=small");
      assert.equal(full.status, 422);
      assert.match(
        full.html,
        /No toolbox with the label size=small can take it now\. Small has 256/,
      );
      assert.match(full.html, /<option value="size=small" selected="">/);
      assert.match(
        full.html,
        /id="label"[^>]*aria-invalid="true"[^>]*aria-describedby="label-help label-mistake"/,
      );
      const hostile = await deploy("", `size=${HOSTILE}`);
      assert.equal(hostile.status, 422);
      assert.match(hostile.html, /No toolbox has the label size=/);
      assert.equal(hostile.html.includes("<script>alert"), false);
      const apart = await deploy(small, "size=large");
      assert.match(apart.html, /Small does not have the label size=large/);
      assert.match(apart.html, new RegExp(`<option value="${small}" selected=""`));
    });

    await t.step("labels are given with the form that adds a toolbox", async () => {
      const form = { name: "Rack 3", labels: `site=office\n${HOSTILE}` };
      const bad = await admin.post("/toolboxes", form);
      assert.equal(bad.status, 422);
      assert.match(bad.html, /value="Rack 3"/);
      assert.match(bad.html, /site=office\n/);
      assert.match(bad.html, /is no label: write key=value/);
      assert.equal(bad.html.includes("<script>alert"), false);
      const made = await admin.post("/toolboxes", { ...form, labels: "site=office" });
      assert.equal(made.status, 200);
      assert.deepEqual((await named("Rack 3")).labels, { site: "office" });
    });

    await t.step("clocks that differ are told on their page, and once on the list", async () => {
      const ids = [await add("Late", 1024), await add("Early", 1024)];
      const set = (id: string, offsetMs: number | null, warning: string | null) =>
        owner`update public.toolboxes set facts = ${
          JSON.stringify({
            ...FACTS,
            roundTripMs: 34,
            clockOffsetMs: offsetMs,
            clockWarning: warning,
          })
        }::text::jsonb where id = ${id}`;
      const list = async () => (await admin.get("/toolboxes")).html;
      assert.doesNotMatch(await list(), /Clocks differ/);
      await set(ids[0], -45_000, `This host's clock is 45 s behind ${HOSTILE}\u202e`);
      await set(ids[1], null, "Far away");
      const page = (await admin.get(`/toolboxes/${ids[0]}`)).html;
      for (
        const words of [
          /The clocks differ\.<\/strong> This host&#39;s clock is 45 s behind/,
          /\[U\+202E\]/,
          /<dt>Clock<\/dt><dd>45\.00 s behind Mooring&#39;s/,
          /<dt>Round trip<\/dt><dd>34 ms/,
          /What to do: let both machines set their clocks by NTP/,
        ]
      ) assert.match(page, words);
      assert.equal(page.includes("<script>alert"), false);
      const told = await list();
      assert.equal(told.match(/Clocks differ/g)!.length, 1, "once");
      assert.equal(told.match(/What to do/g)!.length, 1);
      assert.match(
        told,
        new RegExp(`<a href="/toolboxes/${ids[0]}">Late</a> \\(45\\.00 s behind Mooring`),
      );
      assert.match(told, new RegExp(`<a href="/toolboxes/${ids[1]}">Early</a>\\. Before long`));
      // It is said of none that has been mended or revoked.
      await set(ids[0], 0, null);
      await owner`update public.toolboxes set last_seen_at = now() - interval '10 minutes'
        where id = ${ids[1]}`;
      const home = async () => (await admin.get("/")).html;
      const before = await home();
      assert.match(before, /Early is silent/);
      const count = (html: string) =>
        Number(/Toolboxes online<\/dt><dd>\d+ *<small>of (\d+)/.exec(html)![1]);
      await admin.post(`/toolboxes/${ids[1]}/revoke`);
      assert.doesNotMatch(await list(), /Clocks differ/);
      assert.doesNotMatch(await home(), /Early is silent/);
      assert.equal(count(await home()), count(before) - 1);
    });

    await t.step("pages have no script or style of their own", async () => {
      await admin.post("/toolboxes", { name: "Rack 2" });
      const { id } = await named("Rack 2");
      for (const path of ["/toolboxes", `/toolboxes/${id}`, `/toolboxes/${app.toolboxId}`]) {
        for (const role of ["owner", "viewer"]) {
          const { status, html } = await app.as(role).get(path);
          assert.equal(status, 200);
          assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on/i);
        }
      }
    });
  },
});
