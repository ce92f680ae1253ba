/** The command line as a person runs it, against a real app over HTTP. */
import assert from "node:assert/strict";
import { findCatalogEntry } from "../../models/catalog_entries.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { makeWish } from "../../models/wishes.ts";
import { freePort } from "../free_port.ts";
import { openApi } from "../routes/api/app.ts";

const MAIN = new URL("../../cli/main.ts", import.meta.url).pathname;
const TOKEN = "GITHUB_PERSONAL_ACCESS_TOKEN";

Deno.test({
  name: "the command line",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using api = await openApi();
    const home = await Deno.makeTempDir({ prefix: "mooring-cli-" });
    const url = api.baseUrl.origin;
    const token = await api.tokenOf("owner");
    const asOwner = { MOORING_URL: url, MOORING_TOKEN: token };

    async function mooring(
      args: string[],
      { env = asOwner, input }: { env?: Record<string, string>; input?: string } = {},
    ) {
      const child = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--quiet",
          "--no-check",
          "--allow-net",
          "--allow-env",
          "--allow-read",
          "--allow-write",
          MAIN,
          ...args,
        ],
        env: { PATH: Deno.env.get("PATH")!, HOME: home, ...env },
        clearEnv: true,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      if (input !== undefined) await writer.write(new TextEncoder().encode(input));
      await writer.close();
      const { code, stdout, stderr } = await child.output();
      const out = new TextDecoder().decode(stdout), err = new TextDecoder().decode(stderr);
      return { code, out, err };
    }
    async function json(args: string[], more?: Parameters<typeof mooring>[1]) {
      const { code, out, err } = await mooring([...args, "--json"], more);
      assert.equal(code, 0, `${args.join(" ")}: ${err}`);
      return JSON.parse(out);
    }

    await t.step("tells what there is, and how each is used", async () => {
      const none = await mooring([], { env: {} });
      assert.equal(none.code, 2);
      assert.match(none.out, /servers deploy <entry>/);
      const all = await mooring(["--", "--help"], { env: {} });
      assert.equal(all.code, 0);
      const noun = await mooring(["toolboxes"], { env: {} });
      assert.match(noun.out, /toolboxes drain/);
      assert.doesNotMatch(noun.out, /servers deploy/);
      const one = await mooring(["servers", "deploy", "--help"], { env: {} });
      assert.equal(one.code, 0);
      assert.match(one.out, /Usage: mooring servers deploy <entry> \[options\]/);
      assert.match(one.out, /--secret INPUT/);
    });

    await t.step("a line that does not hold ends with 2 and the usage", async () => {
      for (
        const [args, words] of [
          [["dance"], /There is no command "dance"/],
          [["servers", "delete", "a"], /There is no command "servers delete": servers --help/],
          [["servers", "--all"], /There is no command "servers --all"/],
          [["servers", "get"], /<server> is missing[^]*Usage: mooring servers get/],
          [["servers", "get", "a", "b"], /one argument too many/],
          [["servers", "list", "--nonsense"], /--nonsense/],
          [["servers", "deploy", "github", "--memory", "much"], /--memory takes a whole number/],
          [["servers", "deploy", "github", "--set", "x"], /--set takes KEY=VALUE/],
          [["call", "github", "echo", "{"], /have to be JSON/],
          [["completion", "tcsh"], /bash, zsh, fish/],
          [["toolboxes", "add", "Rack", "--as", "servce"], /--as takes source, program/],
        ] as const
      ) {
        const { code, err } = await mooring([...args]);
        assert.equal(code, 2, err);
        assert.match(err, words);
      }
      const anonymous = await mooring(["servers", "list"], { env: {} });
      assert.equal(anonymous.code, 2);
      assert.match(anonymous.err, /MOORING_URL and MOORING_TOKEN/);
      const exposed = { MOORING_URL: "http://mooring.example.com", MOORING_TOKEN: token };
      const unsafe = await mooring(["whoami"], { env: exposed });
      assert.equal(unsafe.code, 2);
      assert.match(unsafe.err, /show the token to the network/);
    });

    await t.step("a token that cannot be sent is not said", async () => {
      const broken = { ...asOwner, MOORING_TOKEN: "mpt_hidden\nhidden" };
      const { code, err } = await mooring(["whoami"], { env: broken });
      assert.equal(code, 2, err);
      assert.doesNotMatch(err, /hidden/);
      const fromFile = { ...asOwner, MOORING_TOKEN: `${token}\r\n` };
      assert.equal((await mooring(["whoami"], { env: fromFile })).code, 0);
    });

    await t.step("what is on this machine no proxy is asked for", async () => {
      // Nothing listens there.
      const proxy = `http://127.0.0.1:${freePort()}`;
      const env = { ...asOwner, HTTP_PROXY: proxy, HTTPS_PROXY: proxy, NO_PROXY: "example.com" };
      const { code, err } = await mooring(["whoami"], { env });
      assert.equal(code, 0, err);
    });

    await t.step("what is not Mooring is told as such, whatever it answers", async () => {
      // As a gateway does that knows no such function.
      await using other = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen() {} },
        ({ url }) =>
          url.endsWith("/me")
            ? Response.json({ code: "NOT_FOUND", message: "No function" }, { status: 404 })
            : url.endsWith("/retention")
            ? Response.json(null)
            : new Response('{"items":', { headers: { "content-type": "application/json" } }),
      );
      const env = { ...asOwner, MOORING_URL: `http://127.0.0.1:${other.addr.port}` };
      const { code, err } = await mooring(["whoami"], { env });
      assert.match(err, /is not Mooring's API \(status 404\): check the URL/);
      assert.equal(code, 6);
      const nothing = await mooring(["retention"], { env });
      assert.match(nothing.err, /is not Mooring's API \(status 200\)/);
      const cut = await mooring(["servers", "list"], { env });
      assert.match(cut.err, /The answer of \S+ broke off/);
      assert.deepEqual([nothing.code, cut.code], [6, 6]);
    });

    await t.step("login keeps a token that holds, for its owner's eyes alone", async () => {
      const bad = await mooring(["login", url], { env: {}, input: "mag_x\n" });
      assert.equal(bad.code, 2);
      const unknown = await mooring(["login", url], {
        env: {},
        input: `mpt_${"A".repeat(43)}\n`,
      });
      assert.equal(unknown.code, 4, unknown.err);
      const path = `${home}/.config/mooring/login.json`;
      await assert.rejects(Deno.stat(path));
      const own = await api.tokenOf("owner");
      const kept = await mooring(["login", url], { env: {}, input: `${own}\n` });
      assert.equal(kept.code, 0, kept.err);
      assert.equal(kept.out.includes(own) || kept.err.includes(own), false);
      assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
      assert.equal((await Deno.stat(`${home}/.config/mooring`)).mode! & 0o777, 0o700);
      assert.equal((await json(["whoami"], { env: {} })).person.email, "ann@example.com");
      // A token is for the address that it was kept with.
      const elsewhere = await mooring(["whoami"], { env: { MOORING_URL: "http://127.0.0.1:9" } });
      assert.equal(elsewhere.code, 2);
      assert.equal((await mooring(["logout"], { env: {} })).code, 0);
      await assert.rejects(Deno.stat(path));
      assert.equal((await api.send(own, "GET", "/me")).status, 401, "it is revoked, too");
    });

    let id = "";
    await t.step("the catalog is searched, and a server deployed from it", async () => {
      const found = await mooring(["catalog", "search", "git"]);
      assert.match(found.out, /^github\t/m, "lines with tabs, without a head, in a pipe");
      assert.match((await mooring(["catalog", "get", "github"])).out, /needed, secret/);
      const asked = await mooring(["servers", "deploy", "github"]);
      assert.equal(asked.code, 2, "there is no terminal to ask for the secret at");
      assert.match(asked.err, /Personal access token cannot be asked for here/);
      const made = await json([
        "servers",
        "deploy",
        "github",
        "--name",
        "GitHub",
        "--memory",
        "256",
      ], {
        env: { ...asOwner, [TOKEN]: "ghp_secret" },
      });
      id = made.id;
      assert.equal(made.options.memoryMiB, 256);
      // An entry names its secrets, and may name one of ours.
      await api.owner`
        insert into public.catalog_entries (id, source, slug, entry)
        select gen_random_uuid(), 'test', 'greedy', replace(entry::text, ${TOKEN}, 'MOORING_TOKEN')::jsonb
        from public.catalog_entries where slug = 'github'`;
      const greedy = await mooring(["servers", "deploy", "greedy"]);
      assert.equal(greedy.code, 2, "the token of the command line is not given to a server");
      assert.match(greedy.err, /cannot be asked for here/);
      await api.owner`delete from public.catalog_entries where slug = 'greedy'`;
      assert.deepEqual(made.secrets, [TOKEN]);
      assert.equal((await json(["servers", "list"]))[0].slug, "github");
      const toolbox = ["--toolbox", "This machine"];
      const ours = await json(["servers", "list", "--search", "git", "--kind", "npm", ...toolbox]);
      assert.deepEqual(ours.map(({ slug }: { slug: string }) => slug), ["github"]);
      assert.deepEqual(await json(["servers", "list", "--needs", "denials"]), []);
      const unknown = await mooring(["servers", "list", "--needs", "love"]);
      assert.equal(unknown.code, 2);
    });

    await t.step(
      "what it may not, does not find or comes too late for it tells by its code",
      async () => {
        const missing = await mooring(["servers", "get", "nothing"]);
        assert.equal(missing.code, 3);
        assert.match(missing.err, /There is no server nothing/);
        const reader = { ...asOwner, MOORING_TOKEN: await api.tokenOf("owner", ["read"]) };
        const denied = await mooring(["servers", "stop", "github"], { env: reader });
        assert.equal(denied.code, 4);
        assert.match(denied.err, /lacks the scope servers:write/);
        const early = await mooring(["call", "github", "echo"]);
        assert.equal(early.code, 3, "it lists no such tool yet");
        const invalid = await mooring(["agents", "create", " ", "--json"]);
        assert.equal(invalid.code, 2);
        assert.equal(JSON.parse(invalid.err).errors[0].pointer, "#/name");
        const gone = { MOORING_URL: `http://127.0.0.1:${freePort()}`, MOORING_TOKEN: token };
        const unreachable = await mooring(["whoami"], { env: gone });
        assert.match(unreachable.err, /^Nothing answers at \S+ \(.*Connection refused/);
        assert.equal(unreachable.code, 6);
      },
    );

    await using _ = await api.run(id);
    await t.step("waits for a server, approves its tools and calls one", async () => {
      const waited = await mooring(["servers", "start", "github", "--wait"]);
      assert.equal(waited.code, 0, waited.err);
      assert.match(waited.err, /github is running/);
      assert.match((await mooring(["tools", "list", "github"])).out, /^waiting\ttool\techo/m);
      const unapproved = await mooring(["call", "github", "echo", '{"text":"hi"}']);
      assert.equal(unapproved.code, 5);
      assert.equal((await mooring(["tools", "approve", "github"])).code, 2);
      assert.equal((await mooring(["tools", "approve", "github", "--all"])).code, 0);
      const called = await mooring(["call", "github", "echo", '{"text":"hi \\u001b[31mred"}']);
      assert.equal(called.code, 0, called.err);
      assert.equal(called.out, "hi \u001b[31mred\n", "as it is, in a pipe");
      const piped = await json(["call", "github", "echo", "-"], { input: '{"text":"piped"}' });
      assert.equal(piped.result.content[0].text, "piped");
      await api.calls.flush();
      const [made] = await json(["calls", "--server", "github", "--limit", "1"]);
      const searched = ["calls", made.tool, "--via", "trial", "--period", "hour"];
      assert.equal((await json(searched))[0].id, made.id);
      assert.deepEqual(await json(["calls", "nothing-like-it"]), []);
      assert.equal((await mooring(["calls", "--outcome", "great"])).code, 2);
      assert.equal((await mooring(["calls", "body", made.id])).code, 3, "nothing of it is kept");
    });

    await t.step("says what is kept, and changes it", async () => {
      assert.equal((await json(["retention"])).callsKeptDays, 90);
      assert.deepEqual(await json(["retention", "--calls", "30", "--bodies", "1"]), {
        callsKeptDays: 30,
        keepsBodies: true,
        bodiesKeptDays: 1,
      });
      assert.match((await mooring(["retention"])).out, /30 days/);
      assert.equal((await json(["retention", "--no-bodies"])).keepsBodies, false);
      assert.equal((await mooring(["retention", "--calls", "3"])).code, 2);
      assert.match(
        (await mooring(["servers", "logs", "github", "--search", "error"])).out,
        /an Error/,
      );
    });

    await t.step("agents are made, connected and given a token", async () => {
      assert.equal((await mooring(["agents", "create", "Claude"])).code, 0);
      const connected = await json(["agents", "connect", "claude", "github", "--tool", "echo"]);
      assert.deepEqual(connected.picked, ["echo"]);
      const made = await mooring(["agents", "token", "Claude", "laptop", "--expires", "30"]);
      assert.match(made.out, /^mag_\S+\n$/);
      const [{ tokens }] = await json(["agents", "list"]);
      assert.equal((await mooring(["agents", "revoke", "Claude", tokens[0].id])).code, 0);
      assert.match((await mooring(["agents", "get", "Claude"])).out, /github \(2 tools\)/);
      const mapped = await mooring(["agents", "connections", "--agent", "claude"]);
      assert.match(mapped.out, /^Claude\tgithub\tThis machine\tconnected\t1\t\d+\t/);
      assert.equal((await mooring(["agents", "disconnect", "Claude", "github"])).code, 0);
    });

    await t.step("a REST API is added by its document, in a file or piped", async () => {
      const file = new URL("../fixtures/apis/pets.yaml", import.meta.url).pathname;
      const listed = await mooring(["servers", "operations", file]);
      assert.match(listed.out, /^GET \/pets\tlistPets\tpets\tList pets$/m);
      assert.match(listed.out, /^POST \/reports\t.*Not as a tool: It is at another address/m);
      const text = await Deno.readTextFile(file);
      const made = await json(
        ["servers", "add-openapi", "-", "--operation", "getPet", "--operation", "GET /pets"]
          .concat(["--variable", "region=us", "--secret", "AUTH_KEY", "--name", "Pets"]),
        { input: text, env: { ...asOwner, AUTH_KEY: "their-key" } },
      );
      assert.deepEqual(made.package, {
        registry: "openapi",
        url: "https://us.pets.example.com/v1",
      });
      assert.deepEqual([made.slug, made.secrets], ["pets", ["AUTH_KEY"]]);
      assert.match(
        (await mooring(["servers", "get", "pets"])).out,
        /^package\thttps:\/\/us\.pets/m,
      );
      const changed = await json(["servers", "set-operations", "pets", file]);
      assert.equal(changed.generation, 2);
      assert.deepEqual(changed.secrets, ["AUTH_KEY"], "a key is not asked for again");
      const none = await mooring(["servers", "add-openapi", file, "--operation", "nothing"]);
      assert.equal(none.code, 2);
      assert.match(none.err, /has no operation nothing/);
    });

    await t.step("a server is changed, rolled back and read", async () => {
      const changed = await json(["servers", "set", "github", "--memory", "512"]);
      assert.equal(changed.generation, 2);
      assert.deepEqual(changed.secrets, [TOKEN]);
      const diff = await mooring(["servers", "diff", "github", "1"]);
      assert.match(diff.out, /Going back to it would change:\n {2}Memory: 512 MiB -> 256 MiB\n/);
      assert.equal((await mooring(["servers", "diff", "github", "one"])).code, 2);
      assert.equal((await json(["servers", "rollback", "github", "1"])).options.memoryMiB, 256);
      assert.match((await mooring(["servers", "generations", "github"])).out, /^3\t.*Memory/m);
      assert.match((await mooring(["servers", "events", "github"])).out, /Deployed/);
      assert.match((await mooring(["servers", "get", "github"])).out, /^slug\tgithub$/m);
    });

    await t.step("a server is updated, once what changes was read", async () => {
      const none = await mooring(["servers", "update", "github"]);
      assert.deepEqual([none.code, none.out], [0, "It has what its catalog has\n"]);
      await api.owner`update public.catalog_entries set entry = jsonb_set(jsonb_set(entry,
        '{package,version}', '"9999.1.1"'), '{network,hosts}', '["*:443"]') where slug = 'github'`;
      const told = await mooring(["servers", "update", "github", "--check"]);
      assert.match(told.out, /^From 2\S+ to 9999\.1\.1:\n/);
      assert.match(told.out, /Reaches: \*:443 \(more than before\)/);
      assert.match((await mooring(["servers", "list", "--updates"])).out, /\t9999\.1\.1$/m);
      const unsure = await mooring(["servers", "update", "github"]);
      assert.equal(unsure.code, 2);
      assert.match(unsure.err, /more than before[^]*Say --yes to mean it/);
      const made = await json(["servers", "update", "github", "--yes"]);
      assert.equal(made.package.version, "9999.1.1");
      assert.deepEqual(made.secrets, [TOKEN]);
    });

    await t.step("toolboxes are added, drained and removed", async () => {
      const made = await mooring(["toolboxes", "add", "Rack", "--label", "zone=eu"]);
      assert.match(made.out, /docker run .*MOORING_ENROLMENT_TOKEN=mte_/);
      assert.equal((await mooring(["toolboxes", "drain", "rack"])).code, 0);
      assert.match((await mooring(["toolboxes", "list"])).out, /^Rack\tnot enrolled\t0\tzone=eu/m);
      const unsure = await mooring(["toolboxes", "revoke", "rack"]);
      assert.equal(unsure.code, 2);
      assert.match(unsure.err, /Say --yes to mean it/);
      assert.equal((await mooring(["toolboxes", "remove", "rack", "--yes"])).code, 5);
      assert.equal((await mooring(["toolboxes", "revoke", "rack", "--yes"])).code, 0);
      assert.equal((await mooring(["toolboxes", "remove", "rack", "--yes"])).code, 0);
    });

    await t.step("a workspace goes into a file and from there into another", async () => {
      const file = `${home}/workspace.json`;
      const sealed = { ...asOwner, MOORING_PASSPHRASE: "correct horse battery" };
      const written = await mooring(["export", "--with-secrets", "--output", file], {
        env: sealed,
      });
      assert.equal(written.code, 0, written.err);
      assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
      assert.equal((await Deno.readTextFile(file)).includes("ghp_secret"), false);
      assert.equal((await mooring(["export", "--output", file])).code, 2, "it is there already");
      const there = {
        ...sealed,
        MOORING_TOKEN: await api.tokenOf("stranger", undefined, api.other.workspaceId),
      };
      const plan = await mooring(["import", file], { env: there });
      assert.equal(plan.code, 0, plan.err);
      assert.match(plan.out, /^server\tgithub\tcreate/m);
      assert.equal((await json(["servers", "list"], { env: there })).length, 0);
      const made = await mooring(["import", file, "--apply"], { env: there });
      assert.equal(made.code, 1, "approvals wait for the server's tools");
      assert.match(made.out, /^server\tgithub\tcreated/m);
      assert.match(made.out, /^approvals\tgithub\twaiting/m);
      const piped = await mooring(["import", "-"], {
        env: there,
        input: (await mooring(["export"])).out,
      });
      assert.match(piped.out, /^server\tgithub\tsame/m);
      assert.equal((await mooring(["import", `${home}/none.json`])).code, 2);
    });

    await t.step("at a terminal a list is a table, and a secret is not seen", async () => {
      const command = `${Deno.execPath()} run --quiet --no-check -A ${MAIN}`;
      const terminal = async (
        line: string,
        typed: string,
        env: Record<string, string> = asOwner,
      ) => {
        const child = new Deno.Command("script", {
          args: ["-qec", `${command} ${line}`, "/dev/null"],
          env: { HOME: home, ...env },
          stdin: "piped",
          stdout: "piped",
        }).spawn();
        const writer = child.stdin.getWriter();
        let shown = "", hasTyped = false;
        for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
          shown += text;
          if (typed && !hasTyped && /: $|\] $/.test(shown)) {
            hasTyped = true;
            await writer.write(new TextEncoder().encode(typed));
          }
        }
        await writer.close().catch(() => {});
        return { shown, code: (await child.status).code };
      };
      assert.match((await terminal("servers list", "")).shown, /^SLUG +STATUS +TOOLS[^]*\ngithub /);
      const own = await api.tokenOf("member");
      const login = await terminal(`login ${url}`, `${own}\r`, { MOORING_URL: "" });
      assert.equal(login.code, 0, login.shown);
      assert.equal(login.shown.includes(own), false);
      assert.match(login.shown, /You are member@e\.com/);
      const kept = await terminal("servers remove github", "n\r");
      assert.equal(kept.code, 2);
      assert.match(kept.shown, /Given up/);
    });

    await t.step("any request can be sent", async () => {
      const me = await mooring(["api", "GET", "/me"]);
      assert.equal(JSON.parse(me.out).workspace.role, "owner");
      assert.equal((await mooring(["api", "POST", "/agents", '{"name":"Raw"}'])).code, 0);
    });

    await t.step("agents' requests are read, approved and rejected", async () => {
      const { id: agentId } = await json(["agents", "create", "Asker"]);
      const scopes = ["servers:write"];
      await grantManagement(api.db, api.user, agentId, { scopes, asks: scopes });
      const wish = async (slug: string, name: string) => {
        const { entry } = await findCatalogEntry(api.db, api.user, slug);
        return (await makeWish(api.db, { agentId, workspaceId: api.workspaceId }, {
          asked: { operation: "deploy_server", entry: slug, name, values: {} },
          basis: { entry },
          wants: `deploy ${name}`,
          reason: "To\u202e help",
        })).id;
      };
      const wanted = await wish("github", "Wished"), other = await wish("memory", "Not this");
      const listed = await mooring(["requests", "list", "--agent", "Asker"]);
      assert.match(listed.out, new RegExp(`^${wanted}\tAsker\tasks to deploy Wished`, "m"));
      const shown = await mooring(["requests", "get", wanted]);
      assert.match(shown.out, /To\[U\+202E\] help/);
      const unsure = await mooring(["requests", "approve", wanted]);
      assert.equal(unsure.code, 2);
      assert.match(unsure.err, /asks to deploy Wished: that is done as you/);
      const env = { ...asOwner, [TOKEN]: "ghp_from_env" };
      const { code, out, err } = await mooring(["requests", "approve", wanted, "--yes", "--json"], {
        env,
      });
      assert.equal(code, 0, err);
      assert.match(err, new RegExp(`${TOKEN} of the environment is given`));
      const approved = JSON.parse(out);
      assert.equal(approved.state, "approved");
      assert.equal((await json(["servers", "get", approved.serverId])).name, "Wished");
      assert.equal((await mooring(["requests", "reject", other, "We have one"])).code, 0);
      assert.equal((await mooring(["requests", "reject", other])).code, 5);
      const decided = await json(["requests", "list", "--decided"]);
      assert.deepEqual(decided.map(({ state }: { state: string }) => state), [
        "rejected",
        "approved",
      ]);
      await mooring(["servers", "remove", approved.serverId, "--yes"]);
    });

    await t.step("catalog sources are added, synced and removed", async () => {
      const url = "https://catalog.example.com/list.json";
      const added = await json(["sources", "add", "Ours", url, "--every", "60"]);
      assert.equal(added.syncEveryMinutes, 60);
      assert.match((await mooring(["sources", "list"])).out, /^ours\turl\t/m);
      assert.equal((await mooring(["sources", "sync", "ours"])).code, 0);
      assert.equal((await mooring(["sources", "sync", "nothing"])).code, 3);
      assert.equal((await mooring(["sources", "remove", "ours", "--yes"])).code, 0);
    });

    await t.step("shells complete what it knows", async () => {
      const bash = (await mooring(["completion", "bash"], { env: {} })).out;
      const complete = async (words: string[]) => {
        const line = words.map((word) => `'${word}'`).join(" ");
        const script = `${bash}\nCOMP_WORDS=(${line}); COMP_CWORD=${words.length - 1}
_mooring; printf '%s\\n' "\${COMPREPLY[@]}"`;
        const { stdout, stderr } = await new Deno.Command("bash", { args: ["-c", script] })
          .output();
        assert.equal(new TextDecoder().decode(stderr), "");
        return new TextDecoder().decode(stdout).trim().split("\n");
      };
      assert.deepEqual(await complete(["mooring", "tool"]), ["tools", "toolboxes"]);
      assert.deepEqual(await complete(["mooring", "servers", "st"]), ["start", "stop"]);
      assert.deepEqual(await complete(["mooring", "servers", "deploy", "--mem"]), ["--memory"]);
      assert.deepEqual(await complete(["mooring", "export", "--out"]), ["--output"]);
      const ofOperations = ["--operation", "--without-shape", "--wait", "--json", "--help"];
      assert.deepEqual(
        await complete(["mooring", "servers", "set-operations", "--"]),
        ofOperations,
      );
      assert.deepEqual(await complete(["mooring", "calls", "--ou"]), ["--outcome"]);
      assert.deepEqual(await complete(["mooring", "completion", "z"]), ["zsh"]);
      const hostile = `$(touch ${home}/ran)`;
      assert.deepEqual(await complete(["mooring", "servers", "get", hostile, "--j"]), ["--json"]);
      assert.deepEqual(await complete(["mooring", hostile, "$(touch ran)"]), [""]);
      await assert.rejects(Deno.stat(`${home}/ran`));

      // Alone zsh completes at a terminal: here the words come out of what it would be given them by.
      const zsh = `compdef() {}; compadd() { shift; print -l -- "$@" }; eval "$(<$HOME/script)"
words=(mooring servers set-operations --); CURRENT=4; _mooring`;
      const fish = `source $HOME/script; complete -C "mooring servers set-operations --"
cd $HOME; complete -C "mooring import 'a p"; complete -C 'mooring servers get "$(touch ran)" --js'`;
      await Deno.writeTextFile(`${home}/a pet.yaml`, "");
      for (
        const [shell, script, flag, words] of [
          ["zsh", zsh, "-fc", ofOperations],
          ["fish", fish, "-Nc", [...ofOperations.toSorted(), "a pet.yaml", "--json"]],
        ] as const
      ) {
        const { code, out } = await mooring(["completion", shell], { env: {} });
        assert.equal(code, 0);
        await Deno.writeTextFile(`${home}/script`, out);
        const options = { args: [flag, script], env: { HOME: home } };
        const said = await new Deno.Command(shell, options).output().catch(() => null);
        if (!said) {
          console.warn(`SKIPPED, completion in ${shell}: it is not installed`);
          continue;
        }
        assert.equal(new TextDecoder().decode(said.stderr), "");
        const lines = new TextDecoder().decode(said.stdout).trim().split("\n");
        assert.deepEqual(lines.map((line) => line.split("\t")[0]), words);
      }
      await assert.rejects(Deno.stat(`${home}/ran`));
    });

    await t.step("a server is removed by who means it", async () => {
      const unsure = await mooring(["servers", "remove", "github"]);
      assert.equal(unsure.code, 2);
      assert.match(unsure.err, /container, network, image and secrets; its volumes stay/);
      assert.equal((await mooring(["servers", "remove", "github", "--yes"])).code, 0);
      assert.equal((await json(["servers", "get", "github"])).status, "removing");
      assert.deepEqual(api.logged.filter((line) => / (ERROR|WARNING) /.test(line)), []);
    });

    await Deno.remove(home, { recursive: true });
  },
});
