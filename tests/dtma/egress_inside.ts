/** A server's container for the tests of egress: runs what the test asks, from inside. */
import type { Docker } from "../../dtma/docker.ts";
import type { Egress } from "../../dtma/egress.ts";
import { Label, ownLabels } from "../../dtma/policy.ts";
import seccomp from "../../dtma/seccomp.json" with { type: "json" };
import { BASE } from "./engine.ts";

/** Reads `{id, code, input}` lines and answers with what the code returns. */
const AGENT = `
const AsyncFunction = (async () => {}).constructor;
const node = {};
for (const name of ["net", "tls", "http", "https", "dgram", "os", "fs"]) node[name] = require(name);
node.dns = require("dns/promises");
node.connect = (port, host) => new Promise((resolve) => {
  const socket = net.connect({ port, host, timeout: 6000 });
  socket.on("connect", () => { resolve("connected"); socket.destroy(); });
  socket.on("error", (error) => resolve(error.code));
  socket.on("timeout", () => { resolve("ETIMEDOUT"); socket.destroy(); });
});
/** Writes, and gives all that comes back until the end, or why it ended. */
node.talk = (options, text) => new Promise((resolve) => {
  const socket = net.connect(options);
  let heard = "";
  socket.on("data", (chunk) => heard += chunk.toString("latin1"));
  socket.on("close", () => resolve(heard));
  socket.on("error", (error) => heard += "[" + error.code + "]");
  for (const part of [text].flat()) socket.write(Buffer.from(part, "latin1"));
});
node.get = (options) => new Promise((resolve) => {
  const request = (options.ca ? https : http).request(options, (response) => {
    let body = "";
    response.on("data", (chunk) => body += chunk);
    response.on("end", () => resolve(response.statusCode + " " + body));
  });
  request.on("error", (error) => resolve(error.code ?? error.message));
  request.end(options.body);
});
const keep = {};
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, code, input } = JSON.parse(line);
  let answer;
  try {
    const names = Object.keys(node);
    const run = new AsyncFunction("input", "keep", ...names, code);
    answer = { id, value: await run(input, keep, ...names.map((name) => node[name])) };
  } catch (error) {
    answer = { id, error: String(error.stack) };
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
`;

export interface Inside {
  serverId: string;
  container: string;
  containerId: string;
  /** The container's own address, and the proxy's. */
  address: string;
  proxyAddress: string;
  /** Changes what may be reached. */
  allow(hosts: string[]): Promise<void>;
  // deno-lint-ignore no-explicit-any -- what the code returns
  run(code: string, input?: unknown): Promise<any>;
  close(): void;
}

/** A container, held to the policy as far as the network is concerned, that may reach `hosts`. */
export async function openInside(
  docker: Docker,
  toolboxId: string,
  egress: Egress,
  hosts: string[],
): Promise<Inside> {
  const serverId = crypto.randomUUID();
  const container = `mooring-${serverId}`;
  const labels = ownLabels(toolboxId, serverId);
  const open = (allowed: string[], through: Egress = egress) =>
    through.open(container, { serverId, hosts: allowed, labels });
  const { network, proxyAddress } = await open(hosts);
  const containerId = await docker.createContainer(container, {
    Image: BASE,
    Labels: { [Label.toolbox]: toolboxId, [Label.server]: serverId },
    User: "65532:65532",
    Entrypoint: ["node", "-e", AGENT],
    OpenStdin: true,
    HostConfig: {
      NetworkMode: network,
      Dns: [proxyAddress],
      DnsSearch: ["."],
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges", `seccomp=${JSON.stringify(seccomp)}`],
      ReadonlyRootfs: true,
      Init: true,
      LogConfig: { Type: "none" },
    },
  });
  const attachment = await docker.attachContainer(containerId);
  await docker.startContainer(containerId);
  const details = await docker.inspectContainer(containerId);
  const waiting = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
  void (async () => {
    let pending = "";
    const decoder = new TextDecoder();
    for await (const chunk of attachment.stdout) {
      const lines = (pending + decoder.decode(chunk, { stream: true })).split("\n");
      pending = lines.pop()!;
      for (const line of lines) {
        const answer = JSON.parse(line);
        waiting.get(answer.id)?.(answer);
      }
    }
    for (const end of waiting.values()) end({ error: "The container ended" });
  })();
  void (async () => {
    for await (const text of attachment.stderr) {
      console.error("inside:", new TextDecoder().decode(text));
    }
  })();
  const writer = attachment.stdin.getWriter();
  let last = 0;
  return {
    serverId,
    container,
    containerId,
    address: details.NetworkSettings.Networks[network].IPAddress,
    proxyAddress,
    allow: async (allowed) => void await open(allowed),
    async run(code, input) {
      const id = ++last;
      const { promise, resolve } = Promise.withResolvers<{ value?: unknown; error?: string }>();
      waiting.set(id, resolve);
      const line = JSON.stringify({ id, code, input }) + "\n";
      await writer.write(new TextEncoder().encode(line));
      const { value, error } = await promise;
      waiting.delete(id);
      if (error) throw new Error(error);
      return value;
    },
    close: () => attachment.close(),
  };
}
