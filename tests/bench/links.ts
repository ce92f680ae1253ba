/**
 * The two hops of a call from app to DTMA, by the ways there are. No Docker and no database, so that
 * the ways differ in nothing else:
 *
 *   pipe       JSON-RPC straight to the server's stdin: no hop
 *   forwarder  the least Deno program that takes a POST, writes to the pipe and answers: one HTTP hop
 *   fetch      POST -> app process -> one signed request a call -> DTMA process -> the pipe
 *   direct     the same over one link that the app dialled
 *   tunnel     the same over one link that DTMA dialled
 */
import { serverEverything } from "../dtma/stdio_server.ts";
import { type Caller, dataPathHops, forwarder, pipe } from "./direct.ts";
import { printRatio, printRounds, rounds } from "./load.ts";

export async function measureLinks({ count, isQuick }: { count: number; isQuick: boolean }) {
  const script = await serverEverything();
  await using local = await pipe(script);
  await using hop = await forwarder(script);
  await using fetched = await dataPathHops(script, "fetch");
  await using direct = await dataPathHops(script, "direct");
  await using tunnel = await dataPathHops(script, "tunnel");
  const ways: Record<string, Caller> = {
    pipe: local,
    forwarder: hop,
    fetch: fetched,
    direct,
    tunnel,
  };
  for (const concurrency of [1, 16, 64]) {
    const calls = (concurrency === 1 ? 300 : 2000) / (isQuick ? 2 : 1);
    const measured = await rounds(ways, { concurrency, calls, count });
    console.log(`\nlinks: tools/call of echo, ${concurrency} in flight`);
    printRounds(measured);
    for (const other of ["pipe", "forwarder", "fetch"]) {
      for (const way of ["fetch", "direct", "tunnel"]) {
        if (way !== other) printRatio(measured, way, other);
      }
    }
  }
}
