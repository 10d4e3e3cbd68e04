// What an application in TypeScript writes. `tsc --strict --noEmit` has to accept it, with @types/node.

import * as peregrine from 'peregrine';
import { PeregrineError, type Answer, type ErrorCode, type Message, type Numbers, type Session } from 'peregrine';

export async function main(): Promise<void> {
  await using model = await peregrine.load('user/repo', {
    gpu: 0,
    slots: 8,
    weights: 'q4_K',
    onProgress: (stage: 'download' | 'load', done, total) => console.log(stage, done / total),
    signal: AbortSignal.timeout(60_000),
  });
  using session: Session = await model.chat({ temperature: 0, system: 'Be brief.', seed: 7n });
  const answer: Answer = session.send('Hello', { maxTokens: 5, stop: ['.'], jsonSchema: { type: 'string' } });
  for await (const piece of answer) {
    const text: string = piece;
    if (text.includes('x')) break;
  }
  const finish: 'eos' | 'length' | 'stop' | 'cancelled' | 'failed' | null = answer.finish;
  const message: Message = await session.undo();
  const snapshot: Buffer = await session.snapshot();
  const warnings: string[] = await session.restore(new Uint8Array(snapshot));
  const logits: Numbers = await model.logits(Uint32Array.of(5, 6));
  const [rows = 0]: readonly number[] = logits.shape;
  const [best] = await (await peregrine.loadVision()).classify('picture.png');
  const several: peregrine.Class[][] = await (await peregrine.loadVision(null)).classify(['a.png', snapshot]);
  console.log(finish, message.role, warnings, logits[rows], best?.name, several.length, session.messages[0]?.content);
  // @ts-expect-error: there is no such option
  await model.chat({ temprature: 0 });
  // @ts-expect-error: sampling is the session's
  session.send('x', { temperature: 0 });
  // @ts-expect-error: the library makes them
  new peregrine.Model();
}

main().catch((error: unknown) => {
  if (!(error instanceof PeregrineError)) throw error;
  const code: ErrorCode = error.code;
  console.error(code === 'NoFreeSlot' ? 'busy' : error.message, error.kind);
});
