/** What the first command says when it cannot do its work, and the starts without a person. */
import assert from "node:assert/strict";
import { tcpProxy } from "../dtma/tcp_proxy.ts";
import { freePort } from "../free_port.ts";
import { KINDS } from "../models/databases.ts";
import { App, eventually, type StartOptions, withDataDirectory } from "./app.ts";
import { hasChromium, openBrowser } from "./browser.ts";

const noChromium = await hasChromium() ? null : "there is no Chromium";
if (noChromium) console.warn(`SKIPPED, starts that are seen in a browser: ${noChromium}`);

const ENGINE_ABSENT = { DOCKER_HOST: "unix:///nonexistent/docker.sock" };
const OWNER = { OWNER_EMAIL: "ann@example.com", OWNER_PASSWORD: "a long enough password" };

Deno.test("start tells every mistake in the configuration at once", async () => {
  const { code, output } = await runToEnd({
    dataDirectory: "/dev/null/x",
    port: 99999,
    environment: { OWNER_EMAIL: "ann", SECRETS_KEY: "short", LOG_FORMAT: "xml" },
  });
  assert.equal(code, 1);
  for (const name of ["PORT", "OWNER_EMAIL", "SECRETS_KEY", "LOG_FORMAT"]) {
    assert.match(output, new RegExp(`^  ${name} `, "m"));
  }
  assert.doesNotMatch(output, /short|^ +at /m, "neither a value nor a stack");
});

Deno.test("start refuses an argument that it does not know", () =>
  withDataDirectory(async (dataDirectory) => {
    for (const word of ["--no-instal", "--help"]) {
      const { code, output } = await runToEnd({ dataDirectory, port: freePort(), args: [word] });
      assert.equal(code, 1);
      assert.match(output, new RegExp(`argument "${word}"\\. Usage: .*--no-install`));
    }
  }));

Deno.test("start names a data directory that cannot be written", async () => {
  const { code, output } = await runToEnd({ dataDirectory: "/dev/null/x", port: freePort() });
  assert.equal(code, 1);
  assert.match(output, /The data directory \/dev\/null\/x cannot be written .*DATA_DIR/);
  assert.doesNotMatch(output, /^ +at /m);
});

Deno.test("start names a port that is in use", () =>
  withDataDirectory(async (dataDirectory) => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { code, output } = await runToEnd({ dataDirectory, port: listener.addr.port });
    assert.equal(code, 1);
    assert.match(output, new RegExp(`Port ${listener.addr.port} on 127.0.0.1 is in use`));
    assert.doesNotMatch(output, /^ +at /m);
  }));

Deno.test("start names a host that is no address of this machine", () =>
  withDataDirectory(async (dataDirectory) => {
    for (const HOST of ["203.0.113.9", "nowhere.invalid"]) {
      const { code, output } = await runToEnd({
        dataDirectory,
        port: freePort(),
        environment: { HOST },
      });
      assert.equal(code, 1);
      assert.match(output, new RegExp(`^${HOST} is no address of this machine.* HOST`, "m"));
      assert.doesNotMatch(output, /at=|^ +at /m);
    }
  }));

Deno.test("on a loopback address of its own and any port, links name the port and the toolbox enrols", () =>
  withDataDirectory(async (dataDirectory) => {
    const environment = { ...ENGINE_ABSENT, HOST: "127.0.0.2", LOG_FORMAT: " " };
    const app = await App.start({ dataDirectory, port: 0, environment });
    try {
      const [, address] = /ready: open (http:\/\/127\.0\.0\.2:[1-9]\d*\/) /.exec(app.output) ?? [];
      assert.ok(address, app.output);
      assert.equal((await fetch(`${address}healthz`)).status, 200);
      assert.ok(await app.toolboxId());
    } finally {
      await app.end();
    }
  }));

Deno.test("start names a database that does not answer, without its password", () =>
  withDataDirectory(async (dataDirectory) => {
    const { code, output } = await runToEnd({
      dataDirectory,
      port: freePort(),
      environment: { DATABASE_URL: `postgres://ann:hunter2@127.0.0.1:${freePort()}/mooring` },
    });
    assert.equal(code, 1);
    assert.match(output, /The database of DATABASE_URL cannot be used: .*ECONNREFUSED/);
    assert.doesNotMatch(output, /hunter2|^ +at /m);
  }));

Deno.test({
  name: "Ctrl-C ends the app though its database is gone or answers no more",
  ignore: KINDS[1].ignore,
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    for (const gone of ["close", "stall"] as const) {
      await t.step(gone, () =>
        withDataDirectory(async (dataDirectory) => {
          const database = await KINDS[1].open();
          const url = new URL(database.url!), proxy = tcpProxy(Number(url.port));
          url.port = String(proxy.port);
          const environment = { ...OWNER, DATABASE_URL: url.href, LOCAL_TOOLBOX: "off" };
          const app = await App.start({ dataDirectory, port: freePort(), environment });
          try {
            proxy[gone]();
            // Something is under way in the database.
            fetch(`${app.url}/sign-in`).then((response) => response.body?.cancel(), () => {});
            // On a machine that does much else `deno task` has its turn late.
            const passedOnAfterMs = gone === "stall" ? 2000 : 0;
            assert.equal(await app.interrupt(passedOnAfterMs), 0, app.output);
          } finally {
            await app.end();
            if (gone === "stall") proxy.close();
            await database.close();
          }
        }));
    }
  },
});

Deno.test("start on a fresh machine fetches what the first page needs, and the chat's packages behind it", () =>
  withDataDirectory(async (dataDirectory) => {
    const denoDirectory = await Deno.makeTempDir({ prefix: "mooring-e2e-deno-" });
    const environment = { ...ENGINE_ABSENT, DENO_DIR: denoDirectory };
    const app = await App.start({ dataDirectory, port: freePort(), environment });
    try {
      const atFirst = await packagesIn(denoDirectory);
      for (const name of ["hono", "better-auth", "@electric-sql"]) assert.ok(atFirst.has(name));
      for (const name of ["@supabase", "nodemailer", "playwright-core"]) {
        assert.ok(!atFirst.has(name), `${name} is not needed`);
      }
      assert.ok(!atFirst.has("ai"), "the chat is not waited for");
      assert.equal((await fetch(`${app.url}/setup`)).status, 200);
      await eventually("the chat's packages come", async () => {
        const fetched = await packagesIn(denoDirectory);
        return ["ai", "@ai-sdk", "@modelcontextprotocol"].every((name) => fetched.has(name));
      });
      assert.doesNotMatch(app.output, /cannot be fetched/);
    } finally {
      await app.end();
      await Deno.remove(denoDirectory, { recursive: true });
    }
  }));

Deno.test("start refuses a data directory that another one has", () =>
  withDataDirectory(async (dataDirectory) => {
    const first = await App.start({ dataDirectory, port: freePort(), environment: ENGINE_ABSENT });
    try {
      const { code, output } = await runToEnd({ dataDirectory, port: freePort() });
      assert.equal(code, 1);
      assert.match(output, /Another Mooring already runs on the data directory .*DATA_DIR/);
      assert.equal((await fetch(`${first.url}/healthz`)).status, 200);
    } finally {
      await first.end();
    }
  }));

Deno.test({
  name: "start without a Docker Engine serves the app, which says what to do",
  ignore: noChromium !== null,
  fn: () =>
    withDataDirectory(async (dataDirectory) => {
      const app = await App.start({
        dataDirectory,
        port: freePort(),
        environment: { ...OWNER, ...ENGINE_ABSENT },
        args: ["--no-install"],
      });
      const browser = await openBrowser();
      try {
        assert.doesNotMatch(app.output, /the code/, "the owner came from the environment");
        const page = await browser.newPage();
        await page.goto(`${app.url}/toolboxes`);
        await page.getByLabel("Email address").fill(OWNER.OWNER_EMAIL);
        await page.getByLabel("Password").fill(OWNER.OWNER_PASSWORD);
        await page.getByRole("button", { name: "Sign in" }).click();
        await page.waitForURL(`${app.url}/toolboxes`);
        await page.locator(".cards a").first().click();
        const notice = page.locator(".notice.bad");
        await notice.waitFor();
        assert.match(
          await notice.innerText(),
          /No Docker Engine answers\. .*\/nonexistent\/docker\.sock[^]*What to do: \S/,
        );
      } finally {
        await browser.close();
        await app.end();
      }
    }),
});

/** The packages that Deno has fetched there, or their scopes. */
async function packagesIn(denoDirectory: string): Promise<Set<string>> {
  const names = new Set<string>();
  for (const registry of Deno.readDirSync(`${denoDirectory}/npm`)) {
    if (!registry.isDirectory) continue;
    for await (const { name } of Deno.readDir(`${denoDirectory}/npm/${registry.name}`)) {
      names.add(name);
    }
  }
  return names;
}

async function runToEnd(options: StartOptions): Promise<{ code: number; output: string }> {
  const app = new App(options);
  try {
    const code = await app.exited();
    return { code, output: app.output };
  } finally {
    await app.end();
  }
}
