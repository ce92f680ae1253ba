import assert from "node:assert/strict";
import { AppClock } from "../../dtma/app_clock.ts";

const dateIn = (offsetS: number) => new Date(Date.now() + offsetS * 1000).toUTCString();

Deno.test("AppClock knows nothing at first", () => {
  const clock = new AppClock();
  clock.heardDate(null);
  clock.heardDate("not a date");
  clock.measured({ clockOffsetMs: null, roundTripMs: null });
  const nothing = { clockOffsetMs: null, clockWarning: null, roundTripMs: null };
  assert.deepEqual(clock.facts(), nothing);
});

Deno.test("AppClock warns from 30 s on, by the Date header of any answer", () => {
  const clock = new AppClock();
  clock.heardDate(dateIn(0));
  assert.deepEqual(clock.facts(), { clockOffsetMs: 0, clockWarning: null, roundTripMs: null });
  clock.heardDate(dateIn(-45));
  assert(Math.abs(clock.facts().clockOffsetMs! - 45_000) <= 1000);
  assert.match(clock.facts().clockWarning!, /4[456] s ahead of the app's.*60 s/);
  clock.heardDate(dateIn(40));
  assert.match(clock.facts().clockWarning!, /(39|40|41) s behind the app's/);
  clock.heardDate(dateIn(0));
  assert.equal(clock.facts().clockWarning, null);
});

Deno.test("AppClock tells the same until it is wrong by more than is measured", () => {
  const clock = new AppClock();
  clock.measured({ clockOffsetMs: -5000, roundTripMs: 41.3 });
  const told = { clockOffsetMs: 5000, clockWarning: null, roundTripMs: 41 };
  assert.deepEqual(clock.facts(), told);
  // A link tells it finer than a date, which must not overrule it.
  clock.measured({ clockOffsetMs: -5200, roundTripMs: 55 });
  clock.heardDate(dateIn(-5));
  clock.heardDate(dateIn(-6));
  assert.deepEqual(clock.facts(), told);
  clock.measured({ clockOffsetMs: -9000, roundTripMs: 205.9 });
  assert.deepEqual(clock.facts(), { clockOffsetMs: 9000, clockWarning: null, roundTripMs: 210 });
});
