import type { ChatModel } from "../models/chat_models.ts";
import type { Workspace } from "../models/workspaces.ts";
import { Form } from "./form.tsx";
import { Confirm, Field, Mistake } from "./parts.tsx";
import { reaches } from "./role.ts";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

const SEES: Record<ChatModel["sees"], string> = {
  auto: "Pictures, where its name tells that it takes them",
  text: "Text alone",
  images: "Text and pictures",
  files: "Text, pictures, PDFs and sounds",
};

/** Which model the workspace's conversations are held with; owners and admins say it. */
export function ChatModelCard({ workspace, model, values, mistakes = {} }: {
  workspace: Workspace;
  model: ChatModel | null;
  /** What was typed, where it did not hold. */
  values?: Record<string, string>;
  mistakes?: Record<string, string>;
}) {
  const url = useUrl();
  if (!reaches(workspace.role, "admin")) {
    return (
      <section class="card" aria-labelledby="chat-model">
        <h2 id="chat-model">Model</h2>
        <p>
          {model
            ? `The chat talks with ${visibleText(model.model)} at ${new URL(model.baseUrl).host}.`
            : "No model is named, so there is no chat yet. An owner or admin names one here."}
        </p>
      </section>
    );
  }
  const shown = values ?? {
    provider: model?.provider ?? "openai-compatible",
    baseUrl: model?.baseUrl ?? "",
    model: model?.model ?? "",
    transport: model?.transport ?? "streamable_http",
    sees: model?.sees ?? "auto",
    contextTokens: String(model?.contextTokens ?? 100_000),
  };
  return (
    <section class="card" aria-labelledby="chat-model">
      <h2 id="chat-model">Model</h2>
      <p class="help">
        What the chat talks with. What is said in it, and what tools answer there, goes to this
        server.
      </p>
      <Form action={url("/workspace/model")}>
        <Mistake>{Object.keys(mistakes).length > 0 && "The model is not saved yet."}</Mistake>
        <div class="field">
          <label for="provider">Speaks like</label>
          <select id="provider" name="provider">
            <option value="openai-compatible" selected={shown.provider === "openai-compatible"}>
              OpenAI (chat completions)
            </option>
            <option value="anthropic" selected={shown.provider === "anthropic"}>
              Anthropic (messages)
            </option>
          </select>
        </div>
        <Field
          name="baseUrl"
          label="Base URL"
          type="url"
          required
          value={shown.baseUrl}
          mistake={mistakes.baseUrl}
          placeholder="https://api.openai.com/v1"
          help="Up to the version: https://api.anthropic.com/v1 for Anthropic's own. A model on your own
            network, such as http://localhost:11434/v1, has to be named in MODEL_PRIVATE_HOSTS first."
        />
        <Field
          name="model"
          label="Model"
          required
          value={shown.model}
          mistake={mistakes.model}
          help="By the name that its server has for it."
        />
        <Field
          name="key"
          label="Key"
          type="password"
          autocomplete="off"
          mistake={mistakes.key}
          help={model?.hasKey
            ? "A key is kept, sealed, and never shown. Leave it empty to keep that one."
            : "Kept sealed and never shown. Leave it empty where the server asks for none."}
        />
        <div class="field">
          <label for="sees">Takes</label>
          <select id="sees" name="sees" aria-describedby="sees-help">
            {Object.entries(SEES).map(([value, title]) => (
              <option value={value} selected={shown.sees === value}>{title}</option>
            ))}
          </select>
          <p class="help" id="sees-help">
            What tools answer and people attach beside text: where the model does not take it, it is
            told that it is there.
          </p>
        </div>
        <Field
          name="contextTokens"
          label="Tokens of a conversation at once"
          type="number"
          required
          value={shown.contextTokens}
          mistake={mistakes.contextTokens}
          help="Less than the model's whole context: tools take room too. What is longer is summarised
            by the model itself, and shown as such."
        />
        <div class="field">
          <label for="transport">Agents' tools over</label>
          <select id="transport" name="transport">
            <option value="streamable_http" selected={shown.transport === "streamable_http"}>
              Streamable HTTP
            </option>
            <option value="http_sse" selected={shown.transport === "http_sse"}>
              HTTP+SSE (servers cannot ask you anything in the middle of a call)
            </option>
          </select>
        </div>
        <button>Save</button>
      </Form>
      {model && (
        <Confirm
          label="Forget"
          title="Forget the model and its key?"
          action={url("/workspace/model/remove")}
        >
          <p>Nobody in this workspace can chat until another one is named. Conversations stay.</p>
        </Confirm>
      )}
    </section>
  );
}
