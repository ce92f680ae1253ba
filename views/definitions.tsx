import type { Definition, Kind } from "../models/definitions.ts";
import { definitionText, Difference } from "./difference.tsx";
import { count, tokens } from "./parts.tsx";
import { describe, STATES } from "./tools.tsx";
import { textTokens } from "./token_cost.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

const TITLES: [Exclude<Kind, "tool">, string][] = [
  ["instructions", "Instructions"],
  ["prompt", "Prompts"],
  ["template", "Resource templates"],
];

/** What a server lists beside its tools, with the form that approves exactly what is on the page. */
export function DefinitionList(
  { serverId, definitions }: { serverId: string; definitions: Definition[] },
) {
  const url = useUrl();
  const open = definitions.filter(({ state }) => state === "waiting" || state === "changed");
  return (
    <div id="definitions">
      {definitions.length > 0 && (
        <form
          class="card"
          method="post"
          action={url(`/servers/${serverId}/definitions`)}
          aria-labelledby="definitions-title"
        >
          <h2 id="definitions-title">Instructions, prompts and templates</h2>
          {open.length > 0
            ? (
              <div class="notice">
                <p>
                  {open.length === 1 ? "One waits for you. " : `${open.length} wait for you. `}
                  Agents get them only as you approved them.
                </p>
                <p class="acts">
                  <button name="act" value="approve-all">
                    {open.length === 1 ? "Approve it" : `Approve all ${open.length}`}
                  </button>
                  <button name="act" value="approve" class="quiet">Approve selected</button>
                </p>
              </div>
            )
            : <p class="help">All are approved. One that changes is withheld.</p>}
          {open.map((each) => <input type="hidden" name="waiting" value={pickOf(each)} />)}
          {TITLES.map(([kind, title]) => {
            const those = definitions.filter((each) => each.kind === kind);
            return those.length > 0 && (
              <>
                <h3>{kind === "instructions" ? title : `${title} (${those.length})`}</h3>
                <ul class="tools">
                  {those.map((definition) => <Row definition={definition} />)}
                </ul>
              </>
            );
          })}
          {definitions.some(({ approvedHash }) => approvedHash) && (
            <p class="acts">
              <button name="act" value="withdraw" class="quiet">
                Withdraw approval of selected
              </button>
            </p>
          )}
        </form>
      )}
    </div>
  );
}

/** `kind hash name`, as the checkboxes carry it. */
function pickOf({ kind, hash, name }: Definition): string {
  return `${kind} ${hash} ${name}`;
}

function Row({ definition: pin }: { definition: Definition }) {
  const { kind, name, definition, state, approvedDefinition } = pin;
  const { name: said, sign } = STATES[state];
  // Instructions are a text, which has lines.
  const seen = (of: Record<string, unknown>) => kind === "instructions" ? String(of.text) : of;
  const id = `${kind}-${pin.hash.slice(0, 12)}`;
  return (
    <li class={`tool ${state}`}>
      <div class="tool-head">
        <input
          type="checkbox"
          id={id}
          name="pick"
          value={pickOf(pin)}
          disabled={state === "gone" && !pin.approvedHash}
        />
        <label for={id}>
          {kind === "instructions"
            ? <span>What the server says of itself to models</span>
            : <code>{visibleText(name)}</code>}
        </label>
        <span class={`status ${state}`}>
          <span aria-hidden="true">{sign}</span> {said}
        </span>
        {kind === "instructions" && <small>{tokens(textTokens(String(definition.text)))}</small>}
      </div>
      {state === "changed" && approvedDefinition
        ? <Difference approved={seen(approvedDefinition)} now={seen(definition)} />
        : kind === "instructions"
        ? <pre tabindex={0}>{definitionText(seen(definition))}</pre>
        : (
          <>
            <p class="description">{describe(definition.description)}</p>
            {kind === "prompt" && Array.isArray(definition.arguments) && (
              <p class="help">{count(definition.arguments.length, "argument")}</p>
            )}
            <details>
              <summary>Definition</summary>
              <pre tabindex={0}>{definitionText(definition)}</pre>
            </details>
          </>
        )}
    </li>
  );
}
