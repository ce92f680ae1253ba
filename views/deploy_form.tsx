import type { AskedInput, BuildCode } from "../models/catalog_entries.ts";
import type { Placement } from "../models/placement.ts";
import type { Toolbox } from "../models/toolboxes.ts";
import { Form } from "./form.tsx";
import { TierField } from "./isolation.tsx";
import type { EntryProps } from "./marketplace.tsx";
import { isElsewhere } from "./package.tsx";
import { count, Field, Mistake } from "./parts.tsx";
import { TransportFields, transportTitle } from "./transport.tsx";
import { useUrl } from "./url.ts";

/** The form that deploys an entry: what it asks, where it goes, and what has to be agreed to. */
export function DeployForm(props: EntryProps) {
  const { entry, placement, values, mistakes } = props;
  const url = useUrl();
  if (!placement.fits.some((fit) => fit.isChoosable)) {
    return (
      <p class="notice bad">
        {props.nothingFits}. <a href={url("/toolboxes")}>See toolboxes</a>.
      </p>
    );
  }
  return (
    <Form
      action={url("/servers")}
      instead="Members of the workspace deploy servers: ask one of them."
    >
      <Mistake>{props.mistake}</Mistake>
      {props.nothingFits && !(props.mistake && props.nothingFits.includes(props.mistake)) && (
        <p class="notice">
          {props.nothingFits}.{" "}
          <a href={url("/toolboxes")}>See toolboxes</a>. You can deploy now on one that does not
          answer yet; the server starts once it does.
        </p>
      )}
      <input type="hidden" name="slug" value={entry.slug} />
      <input type="hidden" name="idempotencyKey" value={props.idempotencyKey} />
      <InputFields asked={props.asked} values={values} mistakes={mistakes} keptSecrets={[]} />
      <Field
        name="name"
        label="Name"
        value={values.name ?? entry.title}
        mistake={mistakes.name}
        required
        help="What you and your agents see."
      />
      <ToolboxChoice {...props} />
      <TierField
        tier={values["option.tier"] ?? entry.tier}
        entryTier={entry.tier}
        mistake={mistakes["option.tier"]}
      />
      {!isElsewhere(entry.package) && (
        <details
          class="more"
          open={Object.keys(mistakes).some((field) =>
            /^option\.(transport|port|path)$/.test(field)
          )}
        >
          <summary>It speaks {transportTitle(entry.transport)}</summary>
          <TransportFields transport={entry.transport} values={values} mistakes={mistakes} />
        </details>
      )}
      {props.buildCode && (
        <BuildConsent
          code={props.buildCode}
          isGiven={values["consent.build"] === "true"}
          mistake={mistakes["consent.build"]}
        />
      )}
      <button>Deploy</button>
    </Form>
  );
}

/** What a person agrees to, said plainly beside the box that says yes. */
export function BuildConsent({ code, isGiven, mistake }: {
  code: BuildCode;
  isGiven: boolean;
  mistake?: string;
}) {
  return (
    <Field
      name="consent.build"
      type="checkbox"
      label={code === "dockerfile"
        ? "I agree that its Dockerfile runs on the toolbox"
        : "I agree that its install scripts run on the toolbox"}
      value={String(isGiven)}
      mistake={mistake}
      help={code === "dockerfile"
        ? "While the image is built the Dockerfile runs what it likes, with access to the network, " +
          "and not under the limits that the server itself is held to. Agree only if you trust " +
          "whoever wrote it."
        : "While the image is built scripts of the package, and of the packages that it needs, run " +
          "with access to the network, and not under the limits that the server itself is held " +
          "to. Agree only if you trust whoever wrote them."}
    />
  );
}

/** Where it goes: wherever fits best, on one toolbox, or on any with a label; and why others do not fit. */
export function ToolboxChoice({ toolboxes, placement, values, mistakes }: {
  toolboxes: Toolbox[];
  placement: Placement;
  values: Record<string, string>;
  mistakes: Record<string, string>;
}) {
  if (toolboxes.length === 1) {
    return <input type="hidden" name="toolboxId" value={toolboxes[0].id} />;
  }
  const fits = new Map(placement.fits.map((fit) => [fit.toolboxId, fit]));
  const best = toolboxes.find(({ id }) => id === placement.toolboxId);
  const firstChoosable = placement.fits.find((fit) => fit.isChoosable)?.toolboxId;
  // Where none fits for now, the app would choose none: a person may nevertheless.
  const preset = values.toolboxId ?? (best || values.label ? "" : firstChoosable);
  const reasons = placement.fits.filter(({ why }) => why !== null);
  const mistake = mistakes.toolboxId;
  return (
    <>
      <div class="field">
        <label for="toolboxId">Toolbox</label>
        <select
          id="toolboxId"
          name="toolboxId"
          aria-invalid={mistake ? "true" : undefined}
          aria-describedby={`toolboxId-help${mistake ? " toolboxId-mistake" : ""}`}
        >
          <option value="" selected={preset === ""}>
            Wherever fits best{best && ` (now ${best.name})`}
          </option>
          {toolboxes.map((box) => (
            <option
              value={box.id}
              selected={box.id === preset}
              disabled={!fits.get(box.id)?.isChoosable}
            >
              {box.name}
              {fits.get(box.id)?.why ? " (does not fit)" : ` (${count(box.servers, "server")})`}
            </option>
          ))}
        </select>
        {mistake && <p class="mistake" id="toolboxId-mistake">{mistake}</p>}
        <div class="help" id="toolboxId-help">
          <p>Best is, of those that fit, the one with the fewest servers.</p>
          {reasons.length > 0 && (
            <ul class="plain">
              {reasons.map(({ why }) => <li>{why}.</li>)}
            </ul>
          )}
        </div>
      </div>
      <LabelChoice toolboxes={toolboxes} chosen={values.label} mistake={mistakes.label} />
    </>
  );
}

function LabelChoice({ toolboxes, chosen = "", mistake }: {
  toolboxes: Toolbox[];
  chosen?: string;
  mistake?: string;
}) {
  const having = new Map<string, number>();
  for (const { labels } of toolboxes) {
    for (const [key, value] of Object.entries(labels)) {
      const label = `${key}=${value}`;
      having.set(label, (having.get(label) ?? 0) + 1);
    }
  }
  // One that was chosen and is gone since is still what the form says.
  if (chosen && !having.has(chosen)) having.set(chosen, 0);
  if (having.size === 0) return null;
  return (
    <div class="field">
      <label for="label">Only toolboxes with the label</label>
      <select
        id="label"
        name="label"
        aria-invalid={mistake ? "true" : undefined}
        aria-describedby={`label-help${mistake ? " label-mistake" : ""}`}
      >
        <option value="">Any</option>
        {[...having].toSorted(([a], [b]) => a < b ? -1 : 1).map(([label, boxes]) => (
          <option value={label} selected={label === chosen}>
            {label} ({boxes === 1 ? "1 toolbox" : `${boxes} toolboxes`})
          </option>
        ))}
      </select>
      {mistake && <p class="mistake" id="label-mistake">{mistake}</p>}
      <p class="help" id="label-help">Labels are given on a toolbox's page.</p>
    </div>
  );
}

/** The fields for an entry's inputs. A kept secret's value is never in the page. */
export function InputFields(props: {
  asked: AskedInput[];
  values: Record<string, string>;
  mistakes: Record<string, string>;
  keptSecrets: string[];
}) {
  return (
    <>
      {props.asked.map(({ field, input, secret }) => {
        const isKept = input.isSecret && props.keptSecrets.includes(secret);
        return (
          <Field
            name={field}
            label={input.label ?? input.name}
            help={input.description}
            mistake={props.mistakes[field]}
            // Unticked is an answer as well.
            required={input.isRequired && !isKept && input.format !== "boolean"}
            type={input.isSecret
              ? "password"
              : input.format === "boolean"
              ? "checkbox"
              : input.format === "number"
              ? "number"
              : "text"}
            autocomplete={input.isSecret ? "new-password" : "off"}
            choices={input.choices}
            rows={input.isRepeated ? 3 : undefined}
            value={input.isSecret ? undefined : props.values[field] ?? input.default}
            placeholder={isKept ? "kept as it is; type to replace it" : input.placeholder}
          />
        );
      })}
    </>
  );
}
