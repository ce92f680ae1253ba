import assert from "node:assert/strict";
import { HomeBody, type HomeProps } from "../../views/home.tsx";

Deno.test("the overview leads to the servers that it has no room for", () => {
  const html = (count: number) => {
    const servers = Array.from({ length: count }, (_, index) => ({
      id: String(index),
      name: `Server ${index}`,
      status: "running",
      statusDetail: "",
      tools: { total: 1, approved: 1, changed: 0, waiting: 0 },
    })) as HomeProps["servers"];
    return String(<HomeBody servers={servers} agents={[]} toolboxes={[]} wishes={[]} />);
  };
  assert.doesNotMatch(html(12), /All \d+ servers/);
  assert.match(html(30), /<a href="\/servers">All 30 servers<\/a>/);
});
