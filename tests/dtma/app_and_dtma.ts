/** The app and a DTMA together, in the test's own process, before the real engine. */
import { v7 } from "uuid";
import { AppClient } from "../../dtma/app_client.ts";
import { DesiredPull, Reporter } from "../../dtma/control.ts";
import { dataPath } from "../../dtma/data_path.ts";
import { hostFacts } from "../../dtma/host_facts.ts";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { Reconciler } from "../../dtma/reconcile.ts";
import { Sandboxes } from "../../dtma/sandboxes.ts";
import { openSession } from "../../dtma/session.ts";
import type { OutsideOptions } from "../../models/outside.ts";
import { freePort } from "../free_port.ts";
import { openApp } from "../oauth/app.ts";
import { clean, type Toolbox } from "./engine.ts";

/** The app, listening, and the DTMA of its toolbox, but for the process of its own. */
export async function openAppAndDtma(
  toolbox: Toolbox,
  { host, name, outside = {} }: {
    /** An address of this machine that containers reach, and what it is called there. */
    host: string;
    name: string;
    outside?: OutsideOptions;
  },
) {
  const port = freePort();
  const baseUrl = `http://127.0.0.1:${port}`;
  const sandboxes = new Sandboxes(toolbox.docker, { standard: true });
  let serveMcp: (request: Request) => Response | Promise<Response> = () =>
    new Response(null, { status: 503 });
  const mcp = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => serveMcp(request),
  );
  const address = `http://127.0.0.1:${mcp.addr.port}`;
  const facts = () => hostFacts(toolbox.docker, { reach: "direct", address }, sandboxes);
  const { privateKey, publicKey } = await generateSigningKey();
  const app = await openApp({
    baseUrl,
    facts: await facts(),
    publicKey,
    outside: { ...outside, addresses: { [name]: [host] } },
  });
  const http = Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, (r) => app.app.fetch(r));
  const key = { keyId: app.toolboxId, privateKey };
  const client = new AppClient(baseUrl);
  const epoch = v7();
  const logged: string[] = [];
  const log = (level: string, message: string) => void logged.push(`${level} ${message}`);
  const reporter = new Reporter({ client, key, epoch, log });
  const reconciler = await Reconciler.open({
    docker: toolbox.docker,
    toolboxId: app.toolboxId,
    dataDir: toolbox.dataDir,
    openSession,
    log,
    egress: { privateNetworks: [`${host}/32`], addresses: { [name]: [host] } },
    report: (observation) => {
      logged.push(JSON.stringify(observation));
      reporter.observe(observation);
    },
    event: (event) => {
      logged.push(JSON.stringify(event));
      reporter.event(event);
    },
    refused: (refusal) => reporter.refused(refusal),
    removed: (serverId) => reporter.removed(serverId),
  });
  serveMcp = dataPath({
    reach: reconciler.reach.bind(reconciler),
    end: reconciler.end.bind(reconciler),
    logOf: reconciler.log.bind(reconciler),
    appPublicKey: () => app.appPublicKey,
    log: (line) => log("warning", line),
  });
  const stopping = new AbortController();
  const pull = new DesiredPull({
    client,
    key,
    facts,
    epoch,
    log,
    onDesired: ({ servers, removing }) => reconciler.apply(servers, removing),
    onAppKey: () => {},
    rotation: { rotate: () => Promise.resolve(), settle: () => Promise.resolve() },
  });
  const running = Promise.all([pull.run(stopping.signal), reporter.run(stopping.signal)]);
  return {
    app,
    baseUrl,
    reconciler,
    logged,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
      await reconciler.close();
      await clean(toolbox.docker, app.toolboxId);
      await mcp.shutdown();
      await http.shutdown();
      await app[Symbol.asyncDispose]();
    },
  };
}
