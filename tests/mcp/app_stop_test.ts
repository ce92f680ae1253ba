/** A replica that is told to stop, and the calls that are under way at it or on a tunnel which ends at it. */
import assert from "node:assert/strict";
import { eventually } from "../chaos/waiting.ts";
import { obstacle, type Replicas, withReplicas } from "./replicas.ts";
import { eventsOf } from "./streams.ts";
import { modern } from "./world.ts";

if (obstacle) console.warn(`SKIPPED, a replica that is told to stop: ${obstacle}`);

Deno.test({
  name: obstacle
    ? `calls over a tunnel are answered by a replica that is told to stop (skipped: ${obstacle})`
    : "calls over a tunnel are answered by a replica that is told to stop",
  ignore: obstacle !== null,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: () => withReplicas({ fixture: "ledger", slug: "ledger", reach: "tunnel" }, stopOne),
});

async function stopOne({ replicas, sql, token, ready }: Replicas): Promise<void> {
  const [{ url }] = await sql`select replica_address as url from mooring.tunnels`;
  const first = replicas.find((each) => each.url === url)!;
  const other = replicas.find((each) => each !== first)!;

  /** Calls a tool that takes two seconds. @returns its answer, once it has told of its progress */
  const begun = async (url: string, name: string) => {
    const asked = { name: "ledger__count", arguments: { token: name, steps: 100 } };
    const { body, headers } = modern("tools/call", { ...asked, _meta: { progressToken: name } });
    const response = await fetch(`${url}/mcp`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        ...headers,
      },
      body: JSON.stringify(body),
    });
    const messages = eventsOf(response);
    await messages.next();
    return async () => {
      let last = "";
      for await (const { data } of messages) last = data || last;
      return last;
    };
  };
  // One that it forwards.
  const forwards = await begun(other.url, "forwards");
  const otherEnded = other.daemon.restart();
  assert.match(await forwards(), /"result".*"text":"forwards"/);
  await otherEnded(60_000);
  await ready(other);

  const [own, forwarded] = [await begun(first.url, "own"), await begun(other.url, "forwarded")];
  const ended = first.daemon.restart();
  assert.match(await own(), /"result".*"text":"own"/);
  assert.match(await forwarded(), /"result".*"text":"forwarded"/);
  await ended(60_000);
  // The toolbox has turned to the other one by then, or does soon.
  await eventually("it is called at the other one", async () => {
    return /"text":"again"/.test(await (await begun(other.url, "again"))());
  }, 60_000);
}
