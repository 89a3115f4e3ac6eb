"""Maximum-likelihood training of the flow on simulated pairs.

Each recipe is trained with one command::

    python -m mne_neuroflow.training mtl-v2 --out runs/mtl-v2

The same command continues a run that was stopped from its last checkpoint.
"""

import json
import math
import time
from dataclasses import fields, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .._files import written_whole
from ..flow.context import Conditions
from ..flow.model import ConditionalFlow, FlowConfig
from ..simulation.setups import Setups, Worlds
from .data import Patients, SimulatedData, build_patients

_LOG, _CHECKPOINT = "log.jsonl", "checkpoint.json"
#: Prefix of the parameter names of the flow's pointwise head.
HEAD = "pointwise."


def level_losses(flow: ConditionalFlow, batch) -> torch.Tensor:
    """Return the negative log-density per whitened coefficient by level, (level,)."""
    conditioned = flow.condition(batch.conditions)
    return -conditioned.log_prob_levels(batch.pairs.deep).mean(0)


def learning_rate(step: int, n_steps: int, peak: float, warm_up: int) -> float:
    """Return the rate: linear warm-up, then half a cosine down to peak / 100."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, n_steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def parameter_groups(flow: ConditionalFlow, eager: dict):
    """Group parameters by learning rate.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    eager : dict
        Layer names, and the factors of their learning rates.

    Returns
    -------
    names : list of str
        Names of parameters in the optimizer's order.
    groups : list of dict
        Parameter groups of the optimizer.
    """
    groups = {1.0: []}
    for name, _ in flow.named_parameters():
        if name.startswith(HEAD):
            continue  # not part of the density, and trained afterwards
        factor = next((f for k, f in eager.items() if f".{k}." in f".{name}"), 1.0)
        groups.setdefault(factor, []).append(name)
    parameters = dict(flow.named_parameters())
    return sum(groups.values(), []), [
        {"params": [parameters[name] for name in names], "factor": factor}
        for factor, names in groups.items()
    ]


class Gradients:
    """Compute the losses of a batch, and their gradients in the flow's parameters.

    A step runs thousands of small kernels. On a GPU they are captured once for each
    shape of batch and replayed, which saves their launches.

    Parameters
    ----------
    flow : ConditionalFlow
        The flow.
    """

    def __init__(self, flow: ConditionalFlow):
        self.flow, self._recorded = flow, {}
        for parameter in flow.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def _compute(self, batch) -> torch.Tensor:
        torch._foreach_zero_([p.grad for p in self.flow.parameters()])
        losses = level_losses(self.flow, batch)
        # Levels have equal weight, independent of their number of coefficients.
        losses.mean().backward()
        return losses.detach()

    def __call__(self, batch) -> torch.Tensor:
        """Return the losses by level, (level,)."""
        if not batch.pairs.deep.is_cuda:
            return self._compute(batch)
        tensors = batch_tensors(batch)
        key = tuple(tensors["deep"].shape)
        if key not in self._recorded:
            self._recorded[key] = self._record(batch)
        graph, inputs, losses = self._recorded[key]
        for name, tensor in tensors.items():
            inputs[name].copy_(tensor)
        graph.replay()
        return losses.clone()

    def _record(self, batch):
        inputs = {name: t.clone() for name, t in batch_tensors(batch).items()}
        deep = inputs["deep"]
        conditions = {k: v for k, v in inputs.items() if k != "deep"}
        static = replace(
            batch,
            conditions=replace(batch.conditions, **conditions),
            pairs=replace(batch.pairs, deep=deep),
        )
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._compute(static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self._compute(static)
        return graph, inputs, losses


def batch_tensors(batch) -> dict:
    """Return the tensors of a batch that determine the loss, by name."""
    conditions = {f.name: getattr(batch.conditions, f.name) for f in fields(Conditions)}
    return {"deep": batch.pairs.deep, **conditions}


class Training:
    """A training run: the flow, its running average, the optimizer and the log.

    Parameters
    ----------
    recipe : dict
        See ``recipes/*.toml``.
    out : str | Path
        Folder of the run's checkpoint and log.
    device : str
        A torch device.
    fabric : lightning_fabric.Fabric | None
        A launched Fabric, for a run in several processes. Each process simulates its
        own batches on its own device, and gradients are averaged. The first process
        writes the checkpoint and the log.
    """

    def __init__(self, recipe: dict, out, device: str = "cpu", fabric=None):
        self.recipe, self.out = recipe, Path(out)
        self.fabric = fabric
        self.device = torch.device(device if fabric is None else fabric.device)
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe["seed"])
        self.flow = ConditionalFlow(FlowConfig.from_dict(recipe["flow"]))
        self.flow.amplitude.start(recipe["training"].get("amplitude_spread", 0.0))
        self.flow.to(self.device)
        self.average = {k: v.clone() for k, v in self.flow.state_dict().items()}
        settings = recipe["training"]
        self.names, groups = parameter_groups(self.flow, settings.get("eager", {}))
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=settings["learning_rate"],
            fused=True,
            betas=(0.9, 0.99),
            weight_decay=settings["weight_decay"],
        )
        self.eager = settings.get("eager", {})
        self.gradients = Gradients(self.flow)
        self.step, self.seconds = 0, 0.0

    def draw_batch(self, data: SimulatedData):
        """Simulate this step's batch in full float32, which whitening requires."""
        torch.set_float32_matmul_precision("highest")
        with torch.no_grad():
            batch = data.batch(self._batch_number())
        torch.set_float32_matmul_precision(self.recipe["training"]["precision"])
        return batch

    def _batch_number(self):
        if self.fabric is None:
            return self.step
        return self.step * self.fabric.world_size + self.fabric.global_rank

    def _share(self, losses):
        """Average gradients and losses over processes."""
        if self.fabric is None:
            return losses
        gradients = [p.grad for p in self.flow.parameters()]
        flat = torch.cat([g.flatten() for g in gradients])
        flat = self.fabric.all_reduce(flat, reduce_op="mean")
        parts = flat.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return self.fabric.all_reduce(losses, reduce_op="mean")

    def update(self, batch) -> torch.Tensor:
        """Take one step, and return the losses by level."""
        settings = self.recipe["training"]
        rate = learning_rate(
            self.step, settings["steps"], settings["learning_rate"], settings["warm_up"]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        losses = self._share(self.gradients(batch))
        norm = torch.nn.utils.clip_grad_norm_(
            self.flow.parameters(), settings["clip"], foreach=True
        )
        if torch.isfinite(norm):
            self.optimizer.step()
            self._follow()
        self.step += 1
        return losses

    @torch.no_grad()
    def _follow(self):
        decay = min(
            self.recipe["training"]["average"], (1 + self.step) / (10 + self.step)
        )
        average = list(self.average.values())
        current = [value.detach() for value in self.flow.state_dict().values()]
        torch._foreach_lerp_(average, current, 1 - decay)

    @torch.no_grad()
    def held_out(self, data: SimulatedData, n_batches: int) -> dict:
        """Compute the losses of the averaged weights on held-out batches."""
        flow = self.averaged()
        losses, start = [], []
        for number in range(n_batches):
            batch = data.batch(number)
            losses.append(level_losses(flow, batch))
            start.append(gaussian_losses(flow, batch))
        mean, gaussian = (torch.stack(values).mean(0) for values in (losses, start))
        return {"held_out": mean.tolist(), "posterior": gaussian.tolist()}

    def averaged(self) -> ConditionalFlow:
        """Build the flow with averaged weights."""
        flow = ConditionalFlow(self.flow.config).to(self.device)
        flow.load_state_dict(self.average)
        return flow.eval()

    def log(self, **values):
        """Append a line to the run's log."""
        line = {"step": self.step, "seconds": round(self.seconds, 1), **values}
        with (self.out / _LOG).open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def save(self):
        """Write the checkpoint, either completely or not at all.

        The files of a step are valid once ``checkpoint.json`` names the step. The files
        of the previous step are then deleted. Weights, their average and the
        optimizer's two moments are separate files, so that none is large.
        """
        state = self.optimizer.state_dict()["state"]
        if not state:
            return  # no step was taken
        parts = {"weights": self.flow.state_dict(), "average": self.average}
        for key in ("exp_avg", "exp_avg_sq"):
            parts[key] = {name: state[k][key] for k, name in enumerate(self.names)}
        for part, tensors in parts.items():
            tensors = {k: v.contiguous().cpu() for k, v in tensors.items()}
            save_file(tensors, self._part(part))
        with written_whole(self.out / _CHECKPOINT) as whole:
            whole.write_text(json.dumps({"step": self.step, "seconds": self.seconds}))
        for part in parts:
            for fname in self.out.glob(f"{part}-*.safetensors"):
                if fname != self._part(part):
                    fname.unlink()

    def _part(self, part):
        return self.out / f"{part}-{self.step:06d}.safetensors"

    def start_from(self, fname):
        """Start from the weights of an earlier run."""
        weights = load_file(fname, device=str(self.device))
        for name, value in self.flow.state_dict().items():
            # A layer that the earlier flow lacks starts as in a new flow.
            new = name.split(".")[-2] in self.eager or name.startswith(HEAD)
            if name not in weights and new:
                weights[name] = value
            if name.startswith("calibration."):
                weights[name] = torch.zeros_like(value)  # no part of training
        self.flow.load_state_dict(weights)
        self.average = {k: v.clone() for k, v in self.flow.state_dict().items()}

    def resume(self) -> bool:
        """Continue from the checkpoint in the run's folder, if there is one."""
        fname = self.out / _CHECKPOINT
        if not fname.exists():
            return False
        meta = json.loads(fname.read_text())
        self.step, self.seconds = meta["step"], meta["seconds"]
        parts = {
            part: load_file(self._part(part), device=str(self.device))
            for part in ("weights", "average", "exp_avg", "exp_avg_sq")
        }
        if self._keeps_books():
            self._forget_log()
        self.flow.load_state_dict(parts["weights"])
        self.average = {name: parts["average"][name] for name in self.average}
        state = self.optimizer.state_dict()
        state["state"] = {
            k: {
                "step": torch.tensor(float(self.step)),
                "exp_avg": parts["exp_avg"][name],
                "exp_avg_sq": parts["exp_avg_sq"][name],
            }
            for k, name in enumerate(self.names)
        }
        self.optimizer.load_state_dict(state)
        return True

    def run(self, data: SimulatedData, held_out: SimulatedData, minutes: float):
        """Train until all steps of the recipe are done or the time has passed.

        Parameters
        ----------
        data, held_out : SimulatedData
            Training batches and held-out batches.
        minutes : float
            Time limit of this call, including evaluations.
        """
        settings = self.recipe["training"]
        begin, recent = time.monotonic(), []
        shares = {"simulation": 0.0, "flow": 0.0}
        while self.step < settings["steps"]:
            tick = time.monotonic()
            batch = self.draw_batch(data)
            if self.step % 50 == 0:
                self._wait()
                shares["simulation"] = time.monotonic() - tick
            recent.append(self.update(batch))
            if self.step % 50 == 1:
                self._wait()
                shares["flow"] = time.monotonic() - tick - shares["simulation"]
            self.seconds += time.monotonic() - tick
            over = self._agree(time.monotonic() - begin > 60 * minutes)
            if self.step % settings["evaluate_every"] == 0 or over:
                losses = torch.stack(recent).nanmean(0).tolist()
                recent = []
                if self._keeps_books():
                    self.log(
                        train=losses,
                        **self.held_out(held_out, settings["evaluate_batches"]),
                        **{f"{k}_s": round(v, 4) for k, v in shares.items()},
                    )
                    self.save()
            if over:
                break
        if self._keeps_books():
            self.save()

    def _keeps_books(self):
        return self.fabric is None or self.fabric.is_global_zero

    def _agree(self, over):
        """Return whether the time has passed in the first process."""
        return over if self.fabric is None else self.fabric.broadcast(over)

    def _forget_log(self):
        """Remove lines from the log that are newer than the checkpoint."""
        log = self.out / _LOG
        lines = log.read_text().splitlines() if log.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        log.write_text("".join(f"{line}\n" for line in kept))

    def _wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def averaged_weights(run: Path) -> Path:
    """Return the file with the averaged weights of a run's last checkpoint."""
    meta = json.loads((Path(run) / _CHECKPOINT).read_text())
    return Path(run) / f"average-{meta['step']:06d}.safetensors"


def gaussian_losses(flow: ConditionalFlow, batch) -> torch.Tensor:
    """Return the losses of the spatial posterior alone."""
    conditioned = flow.condition(batch.conditions)
    levels = conditioned.whiten(batch.pairs.deep)
    normal = [0.5 * z.square() + 0.5 * math.log(2 * math.pi) for z in levels]
    return torch.stack([part.mean() for part in normal])


def _as_tensors(patients):
    """Take patients apart into tensors, which load without running anything."""
    banks = [vars(bank) for bank in patients.banks]
    worlds, template = vars(patients.worlds), vars(patients.template)
    return {"banks": banks, "worlds": worlds, "template": template}


def _from_tensors(banks, worlds, template):
    banks = [Setups(**bank) for bank in banks]
    return Patients(banks, Worlds(**worlds), Worlds(**template))


def prepare_data(recipe: dict, device: str, heads=None, n_jobs: int = 1, cache=None):
    """Build the patients and batches of a recipe.

    Parameters
    ----------
    recipe : dict
        The recipe.
    device : str
        Device of the simulation.
    heads : list of str | None
        Head tables from which patients' heads are drawn, in addition to the template.
    n_jobs : int
        Number of threads that build patients.
    cache : str | Path | None
        File in which to keep the patients between calls.

    Returns
    -------
    data, held_out : SimulatedData
        Training and held-out batches.
    """
    settings = recipe["data"]
    if cache is not None and Path(cache).exists():
        kept = torch.load(cache, weights_only=True)
        patients = [_from_tensors(**part) for part in kept]
    else:
        patients = [
            build_patients(
                **settings[part],
                heads=heads,
                held_out=part == "held_out",
                n_jobs=n_jobs,
                device=device,
            )
            for part in ("patients", "held_out")
        ]
        if cache is not None:
            with written_whole(cache) as whole:
                torch.save([_as_tensors(part) for part in patients], whole)
    common = (settings["seconds"], settings["contacts_a_batch"])
    data = SimulatedData(patients[0], *common, recipe["seed"], device)
    return data, SimulatedData(patients[1], *common, recipe["seed"] + 1, device)
