import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, type Schemas, told } from "../../api/client";
import { useDraft } from "../../form/store";
import { fill, useText } from "../../i18n";
import { IconButton } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { useCalm } from "../../ui/calm";

const CALM_MS = 300;

type Explained = Schemas["PromptShape"];

/** What the prompt means, once the typing pauses. */
function useExplained(prompt: string) {
  const draft = useDraft();
  const steps = typeof draft["steps"] === "number" ? draft["steps"] : 20;
  const styles = Array.isArray(draft["styles"]) ? draft["styles"].filter((style) => typeof style === "string") : [];
  const asked = useCalm(JSON.stringify({ prompt, steps, styles }), CALM_MS);
  return useQuery({
    queryKey: ["prompt", asked],
    queryFn: () => told(api.POST("/v1/prompt", { body: JSON.parse(asked) as Schemas["PromptFields"] })),
    // What was typed last may not be what stood still last: the box was empty a moment ago.
    enabled: prompt !== "" && !asked.startsWith('{"prompt":""'),
    placeholderData: (previous) => previous,
  });
}

/** How many tokens the prompt has, and what it means where one asks. */
export function Tokens({ prompt }: { prompt: string }) {
  const text = useText();
  const [open, setOpen] = useState(false);
  const { data } = useExplained(prompt);
  if (prompt === "" || data === undefined) return null;
  return (
    <div className="tokens">
      <span>{data.chunks === 1 ? fill(text.paint.tokens, { count: data.count, size: data.room }) : fill(text.paint.tokensMore, { count: data.count, chunks: data.chunks, size: data.room })}</span>
      <IconButton icon="info" label={text.paint.explain} onPress={() => setOpen(true)} />
      <Dialog title={text.paint.explain} open={open} onClose={() => setOpen(false)}>
        <Meaning found={data} />
      </Dialog>
    </div>
  );
}

function Meaning({ found }: { found: Explained }) {
  const text = useText();
  return (
    <div className="meaning">
      <h3>{text.paint.weights}</h3>
      <p className="meaning-weights">
        {found.attention.map(({ text: words, weight }, at) => (
          <span key={`${at} ${words}`} className="weighed" data-weight={shade(weight)}>
            {words}
            {weight !== 1 && <sub>{Number(weight.toFixed(2))}</sub>}
          </span>
        ))}
      </p>
      {found.schedule.length > 1 && (
        <>
          <h3>{text.paint.schedule}</h3>
          <ol className="meaning-list">
            {found.schedule.map(({ until: last, text: words }) => (
              <li key={last}>
                <span className="badge">{fill(text.paint.until, { step: last })}</span> {words}
              </li>
            ))}
          </ol>
        </>
      )}
      {found.parts.length > 1 && (
        <>
          <h3>{text.paint.parts}</h3>
          <ul className="meaning-list">
            {found.parts.map(({ text: words, weight }, at) => (
              <li key={`${at} ${words}`}>
                <span className="badge">{weight}</span> {words}
              </li>
            ))}
          </ul>
        </>
      )}
      {found.networks.length > 0 && (
        <>
          <h3>{text.paint.networks}</h3>
          <ul className="meaning-list">
            {found.networks.map((network) => (
              <li key={network.name}>
                {network.type} <strong>{network.name}</strong> {network.unet}
              </li>
            ))}
          </ul>
        </>
      )}
      {found.warnings.map((warning) => (
        <p key={warning} className="job-failed">
          {warning}
        </p>
      ))}
    </div>
  );
}

/** Which of the colours of weights a weight has. */
export function shade(weight: number): "more" | "less" | "plain" {
  if (weight > 1) return "more";
  return weight < 1 ? "less" : "plain";
}
