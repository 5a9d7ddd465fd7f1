"""For reinforcement learning: act step by step with a state, train in parallel over whole rollouts, the same numbers.

The environment is a corridor: a sign at its entrance says left or right, and at its end, some steps later, the agent
has to turn that way. Episodes end at different times: in training `resets` part them, in acting rows of the stream are
reset.

    python examples/rollout.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn import RTF, Stream
from transferfn.models import Backbone, Classifier

ROWS, STEPS = 64, 60


class Corridors:
    """Many corridors side by side, each begun anew when its end is reached."""

    def __init__(self, draw: torch.Generator) -> None:
        self.draw = draw
        self.sign, self.left = torch.zeros(ROWS), torch.zeros(ROWS, dtype=torch.long)  # -1 or 1; steps to the end
        self.fresh = torch.ones(ROWS, dtype=torch.bool)

    def observe(self) -> Tensor:
        """What is seen: the sign, at the entrance only, and whether this is the end, (ROWS, 2)."""
        sign = torch.randint(2, (ROWS,), generator=self.draw) * 2.0 - 1
        length = torch.randint(6, 20, (ROWS,), generator=self.draw)
        self.sign = torch.where(self.fresh, sign, self.sign)
        self.left = torch.where(self.fresh, length, self.left)
        return torch.stack((self.sign * self.fresh, (self.left == 0).float()), -1)

    def act(self, action: Tensor) -> Tensor:
        """Take a step; the reward is 1 or -1 at the end, else 0, (ROWS)."""
        self.fresh = self.left == 0
        self.left = self.left - 1
        return torch.where(self.fresh, self.sign * (2.0 * action - 1), 0)


def main() -> None:
    """Learn by policy gradients, and compare what acting saw with what training computes."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(1)
    backbone = Backbone(16, 2, lambda: RTF(16, 4, horizon=STEPS, constraint="reflection"), inputs=2, norm="layer")
    policy = Classifier(backbone, 2, head="per_step")
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-3)
    for update in range(41):
        stream, world = Stream(policy.decoder(), batch_size=ROWS), Corridors(draw)
        seen, resets, acted, rewards, actions = [], [], [], [], []
        for _ in range(STEPS):
            fresh, observation = world.fresh, world.observe()
            stream.reset(fresh)  # of the rows whose episode begins
            logits = stream(observation)
            action = torch.multinomial(logits.softmax(-1), 1, generator=draw)[:, 0]
            for kept, value in zip((seen, resets, acted, actions), (observation, fresh, logits, action), strict=True):
                kept.append(value)
            rewards.append(world.act(action))
        reward, action = torch.stack(rewards, 1), torch.stack(actions, 1)
        logits = policy.train()(torch.stack(seen, 1), resets=torch.stack(resets, 1))  # all steps at once
        gap = (logits.detach() - torch.stack(acted, 1)).abs().max()
        chosen = logits.log_softmax(-1).gather(-1, action[..., None])[..., 0]
        ended = reward != 0
        loss = -(chosen * reward)[ended].mean()  # all that an action changes is the reward at its step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 10 == 0:
            right = (reward[ended] > 0).float().mean()
            print(f"update {update:2d}: {ended.sum():4d} episodes, {right:4.0%} right; acting and training: {gap:.0e}")


if __name__ == "__main__":
    main()
