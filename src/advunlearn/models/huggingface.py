"""The classifiers of Hugging Face's transformers, for tokens or images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from advunlearn.data.inputs import Shape, shape_in_words
from advunlearn.models.foreign import Foreign, extra, first_of, understood
from advunlearn.options import OptionError, UserError, first_line, nearest
from advunlearn.storage.files import file_digest

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass
class HuggingFace(Foreign):
    """A classifier of transformers, made from a config, with random weights.

    Images are classified by `AutoModelForImageClassification`, other inputs by `AutoModelForSequenceClassification`.
    `arguments` change the config. Weights in the folder `path` are used for the original, as with `original.path`; with
    `pretrained`, every network starts from these weights instead.

    Attributes:
        path: a local folder with `config.json`, as `save_pretrained` writes it.
        name: an architecture such as `bert` or `vit`, or a model of the hub, of which only the config is read.

    References:
        No publication. Transformers names the paper of each model.
    """

    path: str | None = None
    name: str | None = None

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network; see `Foreign.network`."""
        auto, config = self._parts(shape, classes)
        if self.pretrained and self._weights() is not None:
            return self._loaded(auto, config, ignore_mismatched_sizes=True)[0]
        try:
            return auto.from_config(config)
        except ValueError as error:
            words = f"transformers has no classifier of inputs {shape_in_words(shape)} for {config.model_type}"
            raise UserError(f"{words} ({first_line(error)[:100]})") from error

    def trained(self, shape: Shape, classes: int) -> nn.Module:
        """Return a network with the folder's weights, whose names transformers converts; see `Model.trained`."""
        network, about = self._loaded(*self._parts(shape, classes), ignore_mismatched_sizes=True)
        lost = {*about["missing_keys"], *(key[0] for key in about["mismatched_keys"])}
        if lost:
            raise UserError(
                f"the folder lacks these weights of the classifier, or in this shape: {first_of(sorted(lost))}"
            )
        return understood(network, classes, self.own_forward())

    def weights_file(self) -> Path | None:
        """Return the folder's file of weights; None if every network starts from it; see `Model.weights_file`."""
        return None if self.pretrained or self.path is None else self._weights()

    def identity(self) -> dict[str, Any]:
        """Return what identifies the model in the store, with the folder's config in place of its path."""
        if self.path is None:
            return super().identity()
        weights = self._weights() if self.pretrained else None
        files = [self._folder / "config.json", *([weights] if weights else [])]
        return {**super().identity(), "path": [file_digest(file) for file in files]}

    @property
    def _folder(self) -> Path:
        return Path(str(self.path)).expanduser()

    def _weights(self) -> Path | None:
        """Return the folder's file of weights; None if the folder has no such file.

        Raises:
            OptionError: if the weights are in several files.
        """
        if (self._folder / f"{WEIGHTS[0]}.index.json").exists():
            raise OptionError([f"path={self.path}: weights in several files are not supported (try max_shard_size)"])
        return next((self._folder / name for name in WEIGHTS if (self._folder / name).is_file()), None)

    def _loaded(self, auto: Any, config: Any, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """Return a network with the folder's weights, and what transformers reports about weights that do not fit."""
        logging = extra("transformers.utils.logging", "huggingface")
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return auto.from_pretrained(self._folder, config=config, output_loading_info=True, **options)
        finally:
            if shown:
                logging.enable_progress_bar()

    def _parts(self, shape: Shape, classes: int) -> tuple[Any, Any]:
        """Return the class of transformers for these inputs, and its config."""
        if (self.path is None) == (self.name is None):
            raise OptionError(["path or name must be given, but not both (try name=bert, or path=FOLDER)"])
        transformers = extra("transformers", "huggingface")
        images = isinstance(shape, tuple) and len(shape) == 3
        auto = getattr(transformers, f"AutoModelFor{'Image' if images else 'Sequence'}Classification")
        return auto, self._config(transformers, classes)

    def _config(self, transformers: ModuleType, classes: int) -> Any:
        """Return the config, changed by the arguments.

        Raises:
            OptionError: in one line, if the config cannot be read, or if it does not have an option that the arguments
                change.
        """
        if self.path is not None and not (self._folder / "config.json").is_file():
            raise OptionError([f"path={self.path} must be a folder with config.json, as save_pretrained writes it"])
        try:
            if self.name in transformers.CONFIG_MAPPING:
                config = transformers.AutoConfig.for_model(self.name)
            else:
                config = transformers.AutoConfig.from_pretrained(self.name or self._folder)
        except (OSError, ValueError) as error:
            given = f"path={self.path}" if self.name is None else f"name={self.name}"
            near = nearest(self.name or "", transformers.CONFIG_MAPPING)
            reason = first_line(error)[:100]
            raise OptionError([f"{given}: no config can be read{near} ({reason})"]) from error
        unknown = [name for name in self.arguments if not hasattr(config, name)]
        if unknown:
            near = nearest(unknown[0], config.to_dict(), "arguments.")
            raise OptionError([f"arguments.{unknown[0]}: the config of {config.model_type} has no such option{near}"])
        config.update({"num_labels": classes, **self.arguments})
        return config
