import assert from "node:assert/strict";
import { RestartPolicy } from "../../dtma/restart_policy.ts";
import { Slots } from "../../dtma/slots.ts";

const between = (value: number | null, low: number, high: number) =>
  assert.ok(value !== null && value >= low && value <= high, `${value} is not in ${low}..${high}`);

Deno.test("RestartPolicy doubles from a second, and gives up after five quick failures", () => {
  const policy = new RestartPolicy();
  for (const seconds of [1, 2, 4, 8]) between(policy.failed(100), 750 * seconds, 1250 * seconds);
  assert.equal(policy.failed(100), null);
});

Deno.test("RestartPolicy goes up to 300 seconds, and starts anew after ten healthy minutes", () => {
  const policy = new RestartPolicy();
  let delay: number | null = 0;
  for (let failures = 0; failures < 12; failures++) delay = policy.failed(2 * 60_000);
  between(delay, 225_000, 300_000);
  between(policy.failed(10 * 60_000), 750, 1250);
});

Deno.test("RestartPolicy counts only failures in a row as a crash loop", () => {
  const policy = new RestartPolicy();
  for (let round = 0; round < 3; round++) {
    for (let quick = 0; quick < 4; quick++) assert.notEqual(policy.failed(100), null);
    assert.notEqual(policy.failed(5 * 60_000), null);
  }
});

Deno.test("Slots lets so many in, the others in turn, and forgets who gives up", async () => {
  const slots = new Slots(2);
  const { signal } = new AbortController();
  const [one] = [await slots.take(signal), await slots.take(signal)];
  const order = new Array<string>();
  const impatient = new AbortController();
  const gone = slots.take(impatient.signal);
  const third = slots.take(signal).then((release) => (order.push("third"), release));
  impatient.abort();
  await assert.rejects(gone, { name: "AbortError" });
  assert.equal(order.length, 0);
  one();
  one();
  const release = await third;
  const fourth = slots.take(signal).then(() => order.push("fourth"));
  assert.deepEqual(order, ["third"]);
  release();
  await fourth;
});

Deno.test("Slots loses nobody when one gives up in the moment in which it has its turn", async () => {
  const slots = new Slots(1);
  const { signal } = new AbortController();
  const release = await slots.take(signal);
  const impatient = new AbortController();
  const second = slots.take(impatient.signal);
  const third = slots.take(signal);
  release();
  impatient.abort();
  (await second)();
  const free = await Promise.race([
    third,
    new Promise((resolve) => setTimeout(() => resolve("never"), 1000)),
  ]);
  assert.equal(typeof free, "function");
});
