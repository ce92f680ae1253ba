import assert from "node:assert/strict";
import { Output, visible } from "../../cli/output.ts";
import { addedTo } from "../../cli/servers.ts";

function printed(isTerminal: boolean, isJson = false) {
  let text = "", told = "";
  const output = new Output(isJson, isTerminal, (part) => text += part, (part) => told += part);
  return { output, text: () => text, told: () => told };
}

const COLUMNS = {
  name: ({ name }: { name: string }) => name,
  size: ({ size }: { size: number }) => size,
};
const ITEMS = [{ name: "a\tb", size: 1 }, { name: "long \u001b]0;x\u0007 name", size: 20 }];

Deno.test("a list is a table at a terminal, and lines with tabs in a pipe", () => {
  const terminal = printed(true);
  terminal.output.list(ITEMS, COLUMNS, "none");
  const lines = terminal.text().split("\n");
  assert.match(lines[0], /^NAME {2,}SIZE$/);
  assert.match(lines[2], /^long \[U\+001B\]\]0;x\[U\+0007\] name {2}20$/);
  assert.equal(lines[0].indexOf("SIZE"), lines[1].indexOf("1"));
  const pipe = printed(false);
  pipe.output.list(ITEMS, COLUMNS, "none");
  assert.equal(pipe.text(), "a b\t1\nlong [U+001B]]0;x[U+0007] name\t20\n");
});

Deno.test("an empty list says what to do, beside what is answered", () => {
  const pipe = printed(false);
  pipe.output.list<(typeof ITEMS)[number]>([], COLUMNS, "Make one");
  assert.deepEqual([pipe.text(), pipe.told()], ["", "Make one"]);
  const json = printed(true, true);
  json.output.list<(typeof ITEMS)[number]>([], COLUMNS, "Make one");
  assert.deepEqual([json.text(), json.told()], ["[]\n", ""]);
});

Deno.test("text of others moves no cursor at a terminal", () => {
  const terminal = printed(true);
  terminal.output.text({}, "red \u001b[31m\u202egnp.exe\nnext");
  assert.equal(terminal.text(), "red [U+001B][31m[U+202E]gnp.exe\nnext");
  assert.equal(visible("Grüße 世界\n"), "Grüße 世界\n");
  terminal.output.tell("Not answered: \u001b]0;x\u0007");
  terminal.output.done({}, "\u001b[2K is running");
  assert.equal(terminal.told(), "Not answered: [U+001B]]0;x[U+0007][U+001B][2K is running");
  const said = { text: "\u009b31m\u202e\u{e0041}\n" };
  const json = printed(true, true), piped = printed(false, true);
  for (const each of [json, piped]) {
    each.output.json(said);
    assert.deepEqual(JSON.parse(each.text()), said);
  }
  assert.match(json.text(), /"\\u009b31m\\u202e\\udb40\\udc41\\n"/);
  assert.match(piped.text(), /\u009b31m\u202e/);
  const facts = printed(true);
  facts.output.facts({}, { "\u001b[31mINPUT": "needed" });
  assert.equal(facts.text(), "[U+001B][31mINPUT: needed\n");
});

Deno.test("a log that is followed goes on where it ended, also when its beginning was dropped", () => {
  assert.equal(addedTo("a\nb\n", "a\nb\nc\n"), "c\n");
  assert.equal(addedTo("a\nb\n", "a\nb\n"), "");
  const lines = Array.from({ length: 100 }, (_, n) => `line ${n}\n`);
  const before = lines.slice(0, 90).join(""), after = lines.slice(20).join("");
  assert.equal(addedTo(before, after), lines.slice(90).join(""));
  assert.equal(addedTo("a\n", "other\n"), "other\n");
  assert.equal(addedTo("", "first\n"), "first\n");
});
