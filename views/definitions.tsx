import type { Definition, Kind } from "../models/definitions.ts";
import { definitionText } from "./difference.tsx";
import { Form } from "./form.tsx";
import { count, tokens } from "./parts.tsx";
import { Approvals, Described, Pinned, PinRow } from "./pins.tsx";
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
  return (
    <div id="definitions">
      {definitions.length > 0 && (
        <Form
          class="card"
          isList
          action={url(`/servers/${serverId}/definitions`)}
          aria-labelledby="definitions-title"
        >
          <h2 id="definitions-title">Instructions, prompts and templates</h2>
          <Approvals
            id="definitions-waiting"
            pins={definitions}
            pickOf={pickOf}
            waits={(open) => (
              <>
                {open === 1 ? "One waits for you. " : `${open} wait for you. `}
                Agents get them only as you approved them.
              </>
            )}
            settled="All are approved. One that changes is withheld."
          >
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
          </Approvals>
        </Form>
      )}
    </div>
  );
}

/** `kind hash name`, as the checkboxes carry it. */
function pickOf({ kind, hash, name }: Definition): string {
  return `${kind} ${hash} ${name}`;
}

function Row({ definition: pin }: { definition: Definition }) {
  const { kind, name, definition } = pin;
  const id = `${kind}-${pin.hash.slice(0, 12)}`;
  if (kind === "instructions") {
    // A text, which has lines.
    const seen = (of: Record<string, unknown>) => String(of.text);
    return (
      <PinRow
        pin={pin}
        id={id}
        pick={pickOf(pin)}
        label={<span>What the server says of itself to models</span>}
        aside={<small>{tokens(textTokens(seen(definition)))}</small>}
      >
        <Pinned pin={pin} seen={seen}>
          <pre tabindex={0}>{definitionText(seen(definition))}</pre>
        </Pinned>
      </PinRow>
    );
  }
  return (
    <PinRow pin={pin} id={id} pick={pickOf(pin)} label={<code>{visibleText(name)}</code>}>
      <Pinned pin={pin}>
        <Described definition={definition}>
          {kind === "prompt" && Array.isArray(definition.arguments) && (
            <p class="help">{count(definition.arguments.length, "argument")}</p>
          )}
        </Described>
      </Pinned>
    </PinRow>
  );
}
