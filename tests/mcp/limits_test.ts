import assert from "node:assert/strict";
import { BURST, IN_FLIGHT_LIMIT, limits, STREAMS_LIMIT } from "../../mcp/limits.ts";
import { RpcError } from "../../mcp/revisions.ts";

const isTooMany = (error: unknown) => error instanceof RpcError && error.status === 429;

Deno.test("limits bounds the requests and streams of one token, and no other's", () => {
  const { request, stream } = limits();
  const done = Array.from({ length: IN_FLIGHT_LIMIT }, () => request("a"));
  assert.throws(() => request("a"), isTooMany);
  request("b");
  done[0]();
  done[0]();
  request("a");
  assert.throws(() => request("a"), isTooMany, "one that is done counts once");
  const closed = Array.from({ length: STREAMS_LIMIT }, () => stream("a"));
  assert.throws(() => stream("a"), isTooMany);
  closed[0]();
  stream("a");
});

for (const what of ["request", "stream"] as const) {
  Deno.test(`limits lets a burst of each ${what} through, and no endless one`, () => {
    const count = limits()[what];
    let taken = 0;
    assert.throws(() => {
      for (; taken < 100 * BURST; taken++) count("a")();
    }, isTooMany);
    assert.ok(taken >= BURST);
  });
}
