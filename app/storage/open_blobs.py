"""The blobs that the settings name."""

from app.settings import Settings
from app.storage.blob_cache import BlobCache
from app.storage.blobs import Blobs, FolderBlobs
from app.storage.s3_blobs import S3Blobs


def open_blobs(settings: Settings) -> Blobs:
    """Nothing is connected yet."""
    if settings.object_store is None:
        return FolderBlobs(settings.resolved_storage_folder)
    cache = BlobCache(
        settings.data_dir.resolve() / "blob-cache", bytes_max=settings.blob_cache_bytes_max
    )
    return S3Blobs(settings.object_store, cache)
