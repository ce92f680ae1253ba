/** Each rule of the harness can fail: it is shown a history that is right, and one that is wrong. */
import assert from "node:assert/strict";
import { EGRESS_LABEL } from "../../dtma/egress.ts";
import { Label } from "../../dtma/policy.ts";
import { outcomeOf } from "./client.ts";
import {
  differenceOf,
  type Found,
  type Row,
  strays,
  strayVolumes,
  wayOut,
  whatPeopleWereTold,
} from "./convergence.ts";
import { Judge, type Sight } from "./judge.ts";
import { MUTANTS } from "./mutants.ts";
import { summary } from "./results.ts";
import type { MadeCall, Wanted } from "./workload.ts";

const SERVER = "01a21362-58ed-7361-b362-6bac1f6881df";

const sight = (id: string, rest: Partial<Sight> = {}): Sight => ({
  ...{ id, engine: "first", serverId: SERVER, generation: 1, instance: "shared", startedMs: 0 },
  ...rest,
});

const rules = (judge: Judge) => judge.violations.map(({ rule }) => rule);

Deno.test("two containers of one generation and instance at once", () => {
  const judge = new Judge();
  const a = judge.started(sight("a")), b = judge.started(sight("b", { generation: 2 }));
  const c = judge.started(sight("c", { instance: "an agent's", generation: 2 }));
  judge.runAtOnce([a, b, c]);
  assert.deepEqual(rules(judge), []);
  judge.runAtOnce([a, b, judge.started(sight("d", { generation: 2 }))]);
  assert.deepEqual(rules(judge), ["one container"]);
});

Deno.test("two generations at once where they would write one volume", () => {
  const judge = new Judge();
  const seen = [judge.started(sight("a")), judge.started(sight("b", { generation: 2 }))];
  for (const each of seen) each.hasVolumes = true;
  judge.runAtOnce([seen[0]]);
  assert.deepEqual(rules(judge), []);
  judge.runAtOnce(seen);
  assert.deepEqual(rules(judge), ["one writer of a volume"]);
});

Deno.test("a server on two toolboxes", () => {
  const judge = new Judge();
  judge.started(sight("a"));
  judge.started(sight("b", { engine: "second" }));
  assert.deepEqual(rules(judge), ["one toolbox"]);
});

Deno.test("an older generation that starts after a newer", () => {
  const judge = new Judge();
  judge.started(sight("a", { generation: 2, startedMs: 10 }));
  judge.started(sight("b", { generation: 1, startedMs: 5 }));
  assert.deepEqual(rules(judge), []);
  judge.started(sight("c", { generation: 1, startedMs: 11 }));
  assert.deepEqual(rules(judge), ["no older generation after a newer"]);
});

Deno.test("a start of what a person stopped", () => {
  const judge = new Judge();
  judge.atRest.set(SERVER, { sinceMs: 10, why: "was stopped" });
  judge.started(sight("a", { startedMs: 9 }));
  assert.deepEqual(rules(judge), []);
  judge.started(sight("b", { startedMs: 11 }));
  assert.deepEqual(rules(judge), ["what rests stays at rest"]);
});

Deno.test("a container that was replaced though nobody touched its server", () => {
  const before = new Map([["place", { serverId: SERVER, container: "a" }]]);
  const after = new Map([["place", { serverId: SERVER, container: "b" }]]);
  const judge = new Judge();
  judge.ranOn(before, before, () => false, "a fault");
  judge.ranOn(before, after, () => true, "a fault");
  assert.deepEqual(rules(judge), []);
  judge.ranOn(before, after, () => false, "a fault");
  judge.ranOn(before, new Map(), () => false, "a fault");
  assert.deepEqual(rules(judge), [
    "what nobody touched runs on",
    "what nobody touched runs on",
  ]);
});

Deno.test("calls that ran more or less often than was told", () => {
  const call = (token: string, outcome: MadeCall["outcome"]): MadeCall => ({
    ...{ token, serverId: SERVER, sentMs: 100, endedMs: 200, outcome },
  });
  const calls = [
    call("answered", { kind: "answered", mark: "m1" }),
    call("refused", { kind: "not made", why: "" }),
    call("lost", { kind: "indeterminate", why: "" }),
  ];
  const right = new Judge();
  assert.equal(right.callsRanAsTold(calls, new Map([["answered", 1], ["lost", 1]])), 0);
  assert.equal(right.callsRanAsTold(calls, new Map([["answered", 1]])), 0);
  assert.deepEqual(rules(right), []);
  for (
    const counts of [
      { answered: 2 },
      { answered: 0 },
      { answered: 1, refused: 1 },
      { answered: 1, lost: 2 },
    ]
  ) {
    const judge = new Judge();
    judge.callsRanAsTold(calls, new Map(Object.entries(counts)));
    assert.deepEqual(rules(judge), ["a call runs as often as it is told"], JSON.stringify(counts));
  }
  // Only a container that ran at the time, and could not be looked into, excuses.
  const unsure = new Judge();
  unsure.started(sight("a", { startedMs: 150 }));
  assert.equal(unsure.callsRanAsTold(calls, new Map()), 1);
  assert.deepEqual(rules(unsure), []);
  const later = new Judge();
  later.started(sight("a", { startedMs: 60_000 }));
  later.callsRanAsTold(calls, new Map());
  assert.deepEqual(rules(later), ["a call runs as often as it is told"]);
});

Deno.test("a call that gets another's answer", () => {
  const answerOf = (token: string) =>
    JSON.stringify({ result: { content: [{ text: JSON.stringify({ token, mark: "m1" }) }] } });
  assert.deepEqual(outcomeOf(200, answerOf("own"), "own"), { kind: "answered", mark: "m1" });
  const outcome = outcomeOf(200, `event: message\ndata: ${answerOf("other")}\n\n`, "own");
  assert.equal(outcome.kind, "another's answer");
  const judge = new Judge();
  const call = { token: "own", serverId: SERVER, sentMs: 0, endedMs: 1, outcome };
  judge.callsRanAsTold([call], new Map([["own", 1]]));
  assert.deepEqual(rules(judge), ["a call gets its own answer"]);
  assert.throws(() => outcomeOf(200, "event: message\n", "own"), SyntaxError);
});

Deno.test("a volume that lost what was written", () => {
  const calls: MadeCall[] = ["one", "two"].map((token) => ({
    ...{ token, serverId: SERVER, sentMs: 0, endedMs: 0 },
    outcome: { kind: "answered", mark: null },
  }));
  const judge = new Judge();
  judge.keptWhatWasWritten("s1", calls, "one\ntwo\n");
  assert.deepEqual(rules(judge), []);
  judge.keptWhatWasWritten("s1", calls, "two\n");
  assert.deepEqual(rules(judge), ["a volume keeps what was written"]);
});

const ready = { state: "ready", detail: "", since: "" } as const;
const stopped = { ...ready, state: "stopped" } as const;
const layersOf = (layer: typeof ready | typeof stopped) => ({
  ...{ image: layer, container: layer, handshake: layer, tools: layer },
});

const row = (rest: Partial<Row> = {}): Row => ({
  id: SERVER,
  toolboxId: "box",
  slug: "s1",
  generation: 2,
  running: true,
  isRemoved: false,
  mark: "m1",
  failedMarks: [],
  hasHosts: false,
  isForEachAgent: false,
  isToSleep: false,
  seenGeneration: 2,
  layers: layersOf(ready),
  containerId: "a",
  instances: [],
  ...rest,
});

const container = (
  Id: string,
  labels: Record<string, string> = {},
  rest: Partial<Found["containers"][number]> = {},
): Found["containers"][number] => ({
  Id,
  ImageID: "image",
  Names: [`/name-${Id}`],
  State: "running",
  Created: 0,
  Labels: { [Label.server]: SERVER, [Label.generation]: "2", ...labels },
  ...rest,
});

const network = (Name: string, Labels: Record<string, string> = { [Label.server]: SERVER }) => ({
  ...{ Name, Labels },
});

const found = (rest: Partial<Found> = {}): Found => ({
  containers: [container("a")],
  networks: [],
  volumes: [],
  ...rest,
});

Deno.test("a server that is not as it was asked for", () => {
  const agent = container("b", { [Label.instance]: "agent" });
  const two = found({ containers: [container("a"), agent] });
  const apart = { instances: [{ instance: "agent", state: "ready", containerId: "b" }] };
  const asleep = { isToSleep: true, containerId: null, layers: sleeping() };
  const right: [string, Row, Found][] = [
    ["runs", row(), found()],
    ["is stopped", row({ running: false, layers: layersOf(stopped) }), found({ containers: [] })],
    ["has its network", row({ hasHosts: true }), found({ networks: [network("name-a")] })],
    ["has an agent's instance", row({ isForEachAgent: true, ...apart }), two],
    ["sleeps", row(asleep), found({ containers: [] })],
  ];
  for (const [what, ...each] of right) assert.equal(differenceOf(...each), null, what);
  const wrong: [string, Row, Found][] = [
    ["is to be removed", row({ isRemoved: true }), found()],
    ["is gone", row(), found({ containers: [] })],
    ["runs twice", row(), found({ containers: [container("a"), container("c")] })],
    ["went down", row(), found({ containers: [container("a", {}, { State: "exited" })] })],
    ["is another one than was told", row({ containerId: "z" }), found()],
    ["was told of before", row({ seenGeneration: 1 }), found()],
    ["runs though it was stopped", row({ running: false, layers: layersOf(stopped) }), found()],
    ["is stopped and nobody told", row({ running: false }), found({ containers: [] })],
    ["has no way out", row({ hasHosts: true }), found()],
    ["keeps a network", row(), found({ networks: [network("name-a")] })],
    ["runs apart and is not to", row(), two],
    ["has an instance that was not told of", row({ isForEachAgent: true }), two],
    ["told of an instance that is not", row({ isForEachAgent: true, ...apart }), found()],
    ["sleeps and is not to", row({ ...asleep, isToSleep: false }), found({ containers: [] })],
  ];
  for (const [what, ...each] of wrong) assert.notEqual(differenceOf(...each), null, what);

  function sleeping() {
    const idle = { ...ready, state: "idle" } as const;
    return { ...layersOf(ready), container: idle, handshake: idle };
  }
});

Deno.test("what was acknowledged and is not held", () => {
  const wanted: Wanted = {
    id: SERVER,
    slug: "s1",
    kind: "counts",
    running: true,
    removed: false,
    mark: "m1",
    isUncertain: false,
    mayBeRemoved: false,
    isBusy: false,
    isCallable: true,
    isBystander: false,
    isSleeper: false,
    deletesVolume: false,
    touchedIn: 0,
  };
  const told = (rows: Row[], server: Partial<Wanted> = {}) =>
    whatPeopleWereTold(rows, new Map([[SERVER, { ...wanted, ...server }]]));
  assert.deepEqual(told([row()]), []);
  assert.deepEqual(told([], { removed: true }), []);
  // Not learned, or reported as failed.
  assert.deepEqual(told([row({ running: false })], { isUncertain: true }), []);
  assert.deepEqual(told([row({ failedMarks: ["broken2"] })], { mark: "broken2" }), []);
  const removing = { isUncertain: true, mayBeRemoved: true };
  assert.deepEqual(told([], removing), []);
  assert.deepEqual(told([row({ isRemoved: true })], removing), []);
  // Nobody asked for its removal, learned or not.
  assert.equal(told([], { isUncertain: true }).length, 1);
  assert.equal(told([row({ isRemoved: true })], { isUncertain: true }).length, 1);
  assert.equal(told([]).length, 1);
  assert.equal(told([row({ running: false })]).length, 1);
  assert.equal(told([row({ isRemoved: true })]).length, 1);
  assert.equal(told([row({ mark: "m0" })]).length, 1);
  assert.equal(told([row()], { isBusy: true }).length, 1);
  assert.equal(told([row(), row({ id: "another" })]).length, 1);
});

Deno.test("what is left behind", () => {
  const proxy = container("p", { [Label.server]: "", [EGRESS_LABEL]: "1" }, {
    NetworkSettings: { Networks: { "name-a": {} } },
  });
  const own = found({ containers: [container("a"), proxy], networks: [network("name-a")] });
  assert.deepEqual(strays([row()], own), []);
  assert.deepEqual(wayOut(own), []);
  assert.equal(strays([], own).length, 2);
  const forgotten = container("f");
  forgotten.Labels = { [Label.toolbox]: "box" };
  assert.equal(strays([row()], found({ containers: [forgotten] })).length, 1);
  assert.equal(wayOut(found({ networks: [network("name-a")] })).length, 1);
  assert.equal(wayOut({ ...own, networks: [network("name-b")] }).length, 1);
  assert.equal(wayOut(found({ containers: [proxy] })).length, 1);

  const volume = `mooring-${SERVER}-data`;
  const owned = (removed: boolean, deletesVolume: boolean) =>
    strayVolumes([volume], new Map([[SERVER, { removed, deletesVolume }]]));
  assert.deepEqual(owned(false, true), []);
  assert.deepEqual(owned(true, false), []);
  assert.equal(owned(true, true).length, 1);
  assert.equal(strayVolumes([volume], new Map()).length, 1);
});

Deno.test("each planted bug is still put where it belongs", async () => {
  for (const { name, file, from } of MUTANTS) {
    const text = await Deno.readTextFile(new URL(`../../${file}`, import.meta.url));
    assert.equal(text.split(from).length, 2, name);
  }
});

Deno.test("sums of rounds", () => {
  const round = (faults: string[], violated: string[] = []) => ({
    ...{ at: "2026-11-25T16:00:00Z", code: "abc1234", seed: 1, round: 1, faults, violated },
    ...{ lastedMs: 1000, reconvergedMs: 2000, tookMs: 4000 },
  });
  const text = summary([round(["app killed"]), round(["app killed", "DTMA killed"], ["a rule"])]);
  assert.match(text, /\| app killed, frozen, restarted \| 2 \| 1 \| 2\.0 \| 2\.0 \|/);
  assert.match(text, /\| DTMA killed, frozen, restarted \| 1 \| 0 \| +\| +\|/);
  assert.match(text, /\| two at once \| 2 \| 1 \| 2\.0/);
  assert.match(text, /\| all \| 3 \| 2 \| 2\.0/);
  assert.match(text, /\| abc1234 \| 1 \| 2 \| 3 \| 1 \|/);
  assert.match(text, /Seed 1, round 1 of abc1234, app killed and DTMA killed: a rule/);
});
