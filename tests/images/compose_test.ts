/**
 * compose.yaml as people use it, on the real engine with Debian's docker-compose (1.29): its images are
 * built, all is started, and a server is deployed and called. No registry answers here, so Deno's base
 * is the one that images/base.ts assembles, and Postgres an image made here of Debian's packages.
 */
import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { writeTar } from "../../dtma/tar.ts";
import { DTMA_VERSION } from "../../dtma/version.ts";
import { assembleDebian } from "../../images/debian.ts";
import { callOverBridge } from "../dtma/bridge_call.ts";
import { absent, leftovers } from "../dtma/engine.ts";
import { eventually } from "../e2e/app.ts";
import { freePort } from "../free_port.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const COMPOSE = "/usr/bin/docker-compose";
/** As images/README.md tells people whose network re-signs TLS. */
const CA_OVERRIDE = `
services:
  dtma:
    environment:
      NODE_EXTRA_CA_CERTS: /etc/mooring/ca.pem
    volumes:
      - ./images/ca.pem:/etc/mooring/ca.pem:ro
`;
const why = absent ??
  (await Deno.stat(COMPOSE).then(() => null, () => "Debian's docker-compose is not installed"));
if (why) console.warn(`SKIPPED, compose.yaml: ${why}`);

/** Stands in for docker.io/library/postgres, by the variables and the behaviour that compose.yaml uses. */
const POSTGRES_START = `#!/bin/sh
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
if [ ! -s $data/PG_VERSION ]; then
  echo "$POSTGRES_PASSWORD" >/tmp/password
  $bin/initdb -D $data -U postgres --pwfile=/tmp/password --auth=scram-sha-256 --locale=C --encoding=UTF8
  rm /tmp/password
  echo "host all all all scram-sha-256" >>$data/pg_hba.conf
  echo "create database $POSTGRES_DB" | $bin/postgres --single -D $data postgres
fi
exec $bin/postgres -D $data -h '*' -k /tmp
`;

Deno.test({
  name: "compose.yaml: what each container prints is bounded on disk",
  ignore: why !== null,
  async fn() {
    const env = { POSTGRES_PASSWORD: "x", DOCKER_GID: "1" };
    const config = await run(COMPOSE, ["-f", "compose.yaml", "config"], ROOT, env);
    const services = [
      ...config.matchAll(/^ {4}logging:\n {6}driver: json-file\n( {6}.*\n)+/gm),
    ];
    assert.equal(services.length, 3, config);
    for (const [logging] of services) assert.match(logging, /max-size: 10m/);
  },
});

Deno.test({
  name: "compose.yaml: the app, Postgres and a toolbox that enrols by itself",
  ignore: why !== null,
  async fn(t) {
    const id = crypto.randomUUID().slice(0, 8);
    const docker = new Docker();
    const directory = await Deno.makeTempDir({ prefix: "mooring-compose-" });
    const port = freePort();
    const url = `http://127.0.0.1:${port}`;
    const images = ["app", "dtma", "postgres"].map((name) => `mooring-test/${name}:${id}`);
    const [APP_IMAGE, DTMA_IMAGE, POSTGRES_IMAGE] = images;
    const env: Record<string, string> = {
      APP_IMAGE,
      DTMA_IMAGE,
      POSTGRES_IMAGE,
      DENO_BASE_IMAGE: "mooring/deno:2",
      BASE_URL: url,
      PUBLISH: `127.0.0.1:${port}`,
      // The classic builder: this engine has no buildx.
      DOCKER_BUILDKIT: "0",
      COMPOSE_DOCKER_CLI_BUILD: "0",
    };
    const configs = ["-f", "compose.yaml"];
    const compose = (...args: string[]) =>
      run(COMPOSE, ["-p", `mooring-test-${id}`, ...configs, ...args], directory, env);
    const container = async (service: string) =>
      await docker.inspectContainer((await compose("ps", "-q", service)).trim());
    let toolboxId: string | null = null;
    try {
      await t.step("the images are built", async () => {
        await run(Deno.execPath(), ["run", "-A", "images/base.ts", "deno"], ROOT);
        await buildPostgres(docker, POSTGRES_IMAGE);
        // A checkout of its own, with the CA of this network in it as images/README.md says.
        const files = (await Deno.readTextFile(`${ROOT}.dockerignore`)).split("\n")
          .filter((line) => line.startsWith("!")).map((line) => line.slice(1));
        await run("cp", ["-r", "compose.yaml", ".dockerignore", ...files, directory], ROOT);
        const ca = Deno.env.get("NODE_EXTRA_CA_CERTS");
        if (ca) {
          await Deno.copyFile(ca, `${directory}/images/ca.pem`);
          await Deno.writeTextFile(`${directory}/compose.override.yaml`, CA_OVERRIDE);
          configs.push("-f", "compose.override.yaml");
        }
        const group = (await Deno.stat("/var/run/docker.sock")).gid;
        await Deno.writeTextFile(
          `${directory}/.env`,
          `POSTGRES_PASSWORD=a-password-of-the-test\nDOCKER_GID=${group}\n`,
        );
        await compose("build", "app", "dtma");
        for (const image of [APP_IMAGE, DTMA_IMAGE]) {
          const inspected = await docker.inspectImage(image) as unknown as Inspected;
          assert.equal(inspected.Config.User, "65532:65532");
        }
      });

      const browser = new Browser(url);
      await t.step("all comes up, and the toolbox enrols with nobody's help", async () => {
        await compose("up", "--detach");
        await eventually("the toolbox is heard of", async () => {
          const answer = await fetch(`${url}/readyz`).then((r) => r.json()).catch(() => null);
          return answer?.checks?.toolbox === true;
        });
        const [, code] = /set it up with the code (\S+)/.exec(await compose("logs", "app"))!;
        const owner = { code, email: "ann@example.com", name: "Ann", password: "a long password" };
        await browser.post("/setup", owner);
        const list = await browser.get("/toolboxes");
        toolboxId = /href="\/toolboxes\/([0-9a-f-]{36})"/.exec(list)![1];
        assert.match(await browser.get(`/toolboxes/${toolboxId}`), /It keeps a link to Mooring/);
        await eventually(
          "the token is spent and gone",
          async () =>
            !(await compose("exec", "-T", "app", "/bin/ls", "/enrolment")).includes("token"),
        );
      });

      await t.step("the app has no socket, nobody more than it needs", async () => {
        for (const service of ["app", "dtma"]) {
          const { HostConfig, Mounts, Config } = await container(service) as unknown as Inspected;
          const sockets = Mounts.filter(({ Source }) => Source.endsWith("docker.sock"));
          assert.equal(sockets.length, service === "dtma" ? 1 : 0, service);
          assert.equal(Config.User, "65532:65532");
          assert.equal(HostConfig.ReadonlyRootfs, true);
          assert.equal(HostConfig.Privileged, false);
          assert.deepEqual(HostConfig.CapDrop, ["ALL"]);
          assert.deepEqual(HostConfig.SecurityOpt, ["no-new-privileges:true"]);
          assert.equal(
            Object.keys(HostConfig.PortBindings ?? {}).length,
            service === "app" ? 1 : 0,
          );
        }
        assert.equal(await browser.reaches(), true);
      });

      let call: () => Promise<string> = () => Promise.reject();
      let server: string[] = [];
      const containers = async () => (await leftovers(docker, toolboxId!)).containers.toSorted();
      await t.step("a server is deployed and called", async () => {
        call = await deploy(browser);
        assert.match(await call(), /hello/);
        server = await containers();
        assert.ok(server.length > 0);
        await eventually(
          "DTMA is healthy",
          async () =>
            (await container("dtma") as unknown as Inspected).State.Health.Status === "healthy",
        );
      });

      await t.step("the page's command for Docker enrols another toolbox", async () => {
        const { html } = await browser.post("/toolboxes", { name: "Shelf" });
        const command = /<pre id="container"[^>]*><code>([^<]*)/.exec(html)![1]
          .replaceAll("&quot;", '"')
          .replace("--name mooring-dtma", `--name mooring-test-${id} --network host`)
          .replace("mooring-dtma:/var", `mooring-test-${id}:/var`)
          .replace(/mooring\/dtma$/, DTMA_IMAGE);
        const shelf = /\/toolboxes\/([0-9a-f-]{36})\/live/.exec(html)![1];
        try {
          await run("sh", ["-c", command], directory);
          await eventually(
            "it enrols",
            async () =>
              (await browser.get(`/toolboxes/${shelf}`)).includes("It keeps a link to Mooring"),
          );
        } finally {
          await docker.removeContainer(`mooring-test-${id}`);
          await docker.removeVolume(`mooring-test-${id}`);
        }
      });

      await t.step(
        "the app, and then the DTMA, are killed: both come back, the server ran on",
        async () => {
          for (const service of ["app", "dtma"]) {
            const { Id } = await container(service) as unknown as Inspected;
            const { State } = await container(service) as unknown as Inspected;
            Deno.kill(State.Pid, "SIGKILL");
            await eventually(`${service} is started again`, async () => {
              const now = await container(service) as unknown as Inspected;
              return now.State.Running && now.State.Pid !== State.Pid && now.Id === Id;
            });
            await eventually(
              "calls are answered",
              async () => /hello/.test(await call().catch(String)),
            );
          }
          assert.deepEqual(await containers(), server);
        },
      );

      await t.step("an image with a broken DTMA is rolled back, a newer one taken up", async () => {
        const bundle = await compose("exec", "-T", "dtma", "/bin/cat", "/mooring/mooring-dtma.js");
        const replaced = async (version: string, prelude: string) => {
          const text = `if (Deno.args[0] !== "--version") { ${prelude} }\n` +
            bundle.replace(`DTMA_VERSION = "${DTMA_VERSION}"`, `DTMA_VERSION = "${version}"`);
          await docker.buildImage(
            writeTar({
              Dockerfile: `FROM ${DTMA_IMAGE}\nCOPY mooring-dtma.js /mooring/\n`,
              "mooring-dtma.js": text,
            }),
            { tag: DTMA_IMAGE, buildArguments: {}, labels: {}, onLine: () => {} },
          );
          await compose("up", "--detach", "dtma");
        };
        const page = () => browser.get(`/toolboxes/${toolboxId}`);
        await replaced("7.0.0", 'throw new Error("broken")');
        await eventually(
          "it is rolled back",
          async () => (await page()).includes("The upgrade to DTMA 7.0.0 was rolled back"),
          120_000,
        );
        await eventually(
          "calls are answered",
          async () => /hello/.test(await call().catch(String)),
        );
        await replaced("8.0.0", "");
        await eventually(
          "it runs",
          async () => (await page()).includes("Runs DTMA 8.0.0"),
          120_000,
        );
        await eventually(
          "calls are answered",
          async () => /hello/.test(await call().catch(String)),
        );
        assert.deepEqual(await containers(), server);
      });
    } finally {
      await compose("down", "--volumes", "--timeout", "20").catch((error) => console.error(error));
      if (toolboxId) {
        const left = await leftovers(docker, toolboxId);
        for (const each of left.containers) await docker.removeContainer(each);
        for (const each of left.networks) await docker.removeNetwork(each);
        for (const each of left.images) await docker.removeImage(each);
      }
      for (const image of images) await docker.removeImage(image).catch(() => {});
      docker.close();
      await Deno.remove(directory, { recursive: true });
    }
  },
});

interface Inspected {
  Id: string;
  State: { Pid: number; Running: boolean; Health: { Status: string } };
  Config: { User: string };
  Mounts: { Source: string }[];
  HostConfig: {
    ReadonlyRootfs: boolean;
    Privileged: boolean;
    CapDrop: string[];
    SecurityOpt: string[];
    PortBindings: Record<string, unknown> | null;
  };
}

/** What a person's browser sends. */
class Browser {
  #cookie = "";
  constructor(readonly url: string) {}

  async get(path: string): Promise<string> {
    return (await (await this.#send(path)).text()).replaceAll("&#39;", "'");
  }

  async post(path: string, form: Record<string, string | string[]>) {
    const body = new URLSearchParams();
    for (const [name, values] of Object.entries(form)) {
      for (const value of [values].flat()) body.append(name, value);
    }
    const response = await this.#send(path, { method: "POST", body });
    this.#cookie = response.headers.getSetCookie()[0]?.split(";")[0] ?? this.#cookie;
    const html = await response.text();
    assert.ok(response.status < 400, `${path} answered ${response.status}: ${html}`);
    return { location: response.headers.get("location") ?? "", html };
  }

  async reaches(): Promise<boolean> {
    return (await this.#send("/healthz")).ok;
  }

  #send(path: string, init: RequestInit = {}) {
    return fetch(this.url + path, {
      redirect: "manual",
      ...init,
      headers: { cookie: this.#cookie, origin: this.url },
    });
  }
}

/** Deploys a server, approves its tools, connects an agent. @returns how the agent calls it */
async function deploy(browser: Browser): Promise<() => Promise<string>> {
  const form = await browser.get("/marketplace/everything");
  const field = (name: string) => new RegExp(`name="${name}" value="([^"]+)"`).exec(form)![1];
  const { location } = await browser.post("/servers", {
    slug: "everything",
    toolboxId: field("toolboxId"),
    idempotencyKey: field("idempotencyKey"),
  });
  await eventually(
    "the server runs",
    async () => /verdict"[^]*status running/.test(await browser.get(location)),
    150_000,
  );
  const waiting = [
    ...toolsForm(await browser.get(`${location}/tools`)).matchAll(
      /name="waiting" value="([^"]+)"/g,
    ),
  ]
    .map(([, value]) => value);
  await browser.post(`${location}/tools`, { act: "approve-all", waiting });
  const agent = (await browser.post("/agents", { name: "Agent" })).location;
  await browser.post(`${agent}/connections`, { serverId: location.split("/").at(-1)! });
  const { html } = await browser.post(`${agent}/tokens`, { name: "t", expiresInDays: "30" });
  const [token] = /mag_[A-Za-z0-9_-]{43}/.exec(html)!;
  return () => callOverBridge(browser.url, token, "everything__echo", { message: "hello" });
}

async function buildPostgres(docker: Docker, tag: string): Promise<void> {
  const base = "mooring-test/debian-postgres:15";
  if (!await docker.inspectImage(base)) {
    await assembleDebian(docker, { name: base, packages: ["postgresql"] }, () => {});
  }
  await docker.buildImage(
    writeTar({
      Dockerfile: `FROM ${base}\nCOPY start /usr/local/bin/\n` +
        "RUN echo postgres:x:70:70::/tmp:/bin/sh >>/etc/passwd && " +
        "mkdir -p /var/lib/postgresql/data /tmp && chmod 1777 /tmp && " +
        "chown 70:70 /var/lib/postgresql/data && chmod 700 /var/lib/postgresql/data && " +
        "ln -s /usr/lib/postgresql/*/bin/pg_isready /usr/bin/pg_isready.real && " +
        "printf '#!/bin/sh\\nexec /usr/bin/pg_isready.real -h /tmp \"$@\"\\n' >/usr/bin/pg_isready && " +
        "chmod 755 /usr/bin/pg_isready\n" +
        "USER 70:70\n" + 'ENTRYPOINT ["/usr/local/bin/start"]\n',
      start: POSTGRES_START,
    }, ["start"]),
    { tag, buildArguments: {}, labels: {}, onLine: () => {} },
  );
}

async function run(command: string, args: string[], cwd: string, env: Record<string, string> = {}) {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, cwd, env }).output();
  const [out, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assert.ok(
    success,
    `${command} ${args.join(" ")} failed: ${out.slice(-3000)}\n${said.slice(-3000)}`,
  );
  return out;
}

/** Of a server's page: prompts and the like are approved by another form. */
function toolsForm(html: string): string {
  return /<form [^>]*action="[^"]*\/tools">[^]*?<\/form>/.exec(html)![0];
}
