import { Empty } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

/** Resources and prompts of an agent's toolbelt, as its client lists them. */
export interface Attachables {
  resources: { uri: string; name: string; description?: string }[];
  prompts: {
    name: string;
    title?: string;
    description?: string;
    arguments: { name: string; description?: string; required?: boolean }[];
  }[];
  /** Why there are none, where they could not be listed. */
  trouble?: string;
}

/** So many of each are shown: beyond it nobody picks by looking. */
const SHOWN = 200;

/** What may go along with a message; the model is given their texts. */
export function AttachFields({ attachables, form, mistakes }: {
  attachables: Attachables;
  form: Record<string, string>;
  mistakes: Record<string, string>;
}) {
  const { resources, prompts, trouble } = attachables;
  if (trouble) return <p class="notice bad">{trouble}</p>;
  if (resources.length + prompts.length === 0) {
    return (
      <Empty title="Nothing to attach">
        <p>None of the agent's servers has resources or prompts that are approved.</p>
      </Empty>
    );
  }
  return (
    <>
      <input type="hidden" name="attaching" value="true" />
      {resources.length > 0 && (
        <fieldset>
          <legend>Resources</legend>
          {resources.slice(0, SHOWN).map(({ uri, name, description }, at) => (
            <div class="check">
              <input
                type="checkbox"
                id={`resource-${at}`}
                name={`resource.${uri}`}
                value="true"
                checked={form[`resource.${uri}`] === "true"}
              />
              <label for={`resource-${at}`}>
                {visibleText(name || uri)} <small>{visibleText(uri.slice(0, 300))}</small>
              </label>
              {description && <p class="help">{visibleText(description.slice(0, 300))}</p>}
            </div>
          ))}
        </fieldset>
      )}
      {prompts.length > 0 && (
        <fieldset>
          <legend>Prompts</legend>
          {prompts.slice(0, SHOWN).map((prompt, at) => {
            const key = `prompt.${prompt.name}`;
            return (
              <>
                <div class="check">
                  <input
                    type="checkbox"
                    id={`prompt-${at}`}
                    name={key}
                    value="true"
                    checked={form[key] === "true"}
                    aria-describedby={mistakes[key] ? `prompt-${at}-mistake` : undefined}
                  />
                  <label for={`prompt-${at}`}>
                    {visibleText(prompt.title ?? prompt.name)}{" "}
                    <small>{visibleText(prompt.name)}</small>
                  </label>
                  {prompt.description && (
                    <p class="help">{visibleText(prompt.description.slice(0, 300))}</p>
                  )}
                  {mistakes[key] && (
                    <p class="mistake" id={`prompt-${at}-mistake`}>{mistakes[key]}</p>
                  )}
                </div>
                {prompt.arguments.map((argument, n) => (
                  <div class="field">
                    <label for={`prompt-${at}-${n}`}>
                      {visibleText(argument.name)}{" "}
                      {argument.required && <span class="needed">needed</span>}
                    </label>
                    <input
                      id={`prompt-${at}-${n}`}
                      name={`argument.${prompt.name}.${argument.name}`}
                      value={form[`argument.${prompt.name}.${argument.name}`]}
                      autocomplete="off"
                    />
                    {argument.description && (
                      <p class="help">{visibleText(argument.description.slice(0, 300))}</p>
                    )}
                  </div>
                ))}
              </>
            );
          })}
        </fieldset>
      )}
    </>
  );
}
