"""Models in memory: they never change, so that only room limits how long they stay."""

import threading
from collections import OrderedDict

from app.models import service as models
from app.models.trained_model import TrainedModel, from_row
from app.storage.database import Database


class ModelCache:
    """The most recently used models of this process, by owner and id."""

    def __init__(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self._models: OrderedDict[tuple[str, str], TrainedModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, owner: str, model_id: str) -> TrainedModel | None:
        with self._lock:
            model = self._models.get((owner, model_id))
            if model is not None:
                self._models.move_to_end((owner, model_id))
            return model

    def load(self, database: Database, owner: str, model_id: str) -> TrainedModel:
        """Reads the model and keeps it. Raises ModelNotFound."""
        with database.reading() as session:
            model = from_row(models.get(session, owner, model_id))
        with self._lock:
            self._models[owner, model_id] = model
            if len(self._models) > self.entries_max:
                self._models.popitem(last=False)
        return model
