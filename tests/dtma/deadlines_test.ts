import assert from "node:assert/strict";
import { after } from "../../dtma/deadlines.ts";

Deno.test("after calls in order of the times, and holds no process up", async () => {
  const seen: string[] = [];
  const late = Promise.withResolvers<void>(), nested = Promise.withResolvers<void>();
  after(40, late.resolve);
  after(10, () => {
    seen.push("first");
    // In the midst of the queue's own turn.
    after(10, () => {
      seen.push("of the first");
      nested.resolve();
    });
  });
  after(10, () => seen.push("second"));
  // Which of the two is first a machine that stands still for a moment decides.
  await Promise.all([late.promise, nested.promise]);
  assert.deepEqual(seen, ["first", "second", "of the first"]);
});

Deno.test("what sets its deadline anew when it comes holds up none after it", async () => {
  const seen: string[] = [];
  const again = Promise.withResolvers<void>();
  after(1000, () =>
    after(1000, () => {
      seen.push("again");
      again.resolve();
    }));
  // In the same turn: nothing that holds the machine up gets between the two.
  for (const from = performance.now(); performance.now() < from + 5;);
  after(1000, () => seen.push("other"));
  setTimeout(() => seen.push("a timer of the runtime"), 1050);
  await again.promise;
  assert.deepEqual(seen, ["other", "a timer of the runtime", "again"]);
});

Deno.test("a deadline that is cancelled does not come, however often it is", async () => {
  const seen: string[] = [];
  const first = after(10, () => seen.push("first"));
  first.cancel();
  const { promise, resolve } = Promise.withResolvers<void>();
  const second = after(10, resolve);
  const third = after(10, () => seen.push("third"));
  third.cancel();
  first.cancel();
  await promise;
  second.cancel();
  assert.deepEqual(seen, []);
});
