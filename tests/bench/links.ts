/**
 * The two hops of a call from app to DTMA, by the ways there are, as ratios in one run. No Docker:
 *
 *   forwarder  the least Deno program that takes a POST, writes to the pipe and answers: one HTTP hop
 *   fetch      POST -> app process -> one signed request a call -> DTMA process -> the pipe
 *   direct     the same over one link that the app dialled
 *   tunnel     the same over one link that DTMA dialled
 *
 * `deno run -A --lock=tests/deno.lock tests/bench/links.ts [--quick]`
 */
import { serverEverything } from "../dtma/stdio_server.ts";
import { type Caller, dataPathHops, forwarder } from "./direct.ts";
import { printRatio, printRounds, rounds } from "./load.ts";

const isQuick = Deno.args.includes("--quick");
const script = await serverEverything();
await using hop = await forwarder(script);
await using fetched = await dataPathHops(script, "fetch");
await using direct = await dataPathHops(script, "direct");
await using tunnel = await dataPathHops(script, "tunnel");
const ways: Record<string, Caller> = { forwarder: hop, fetch: fetched, direct, tunnel };

for (const concurrency of [1, 16, 64]) {
  const calls = (concurrency === 1 ? 300 : 2000) / (isQuick ? 2 : 1);
  const measured = await rounds(ways, { concurrency, calls, count: isQuick ? 3 : 7 });
  console.log(`tools/call of echo, ${concurrency} in flight`);
  printRounds(measured);
  for (const way of ["fetch", "direct", "tunnel"]) printRatio(measured, way, "forwarder");
  for (const way of ["direct", "tunnel"]) printRatio(measured, way, "fetch");
  console.log();
}
