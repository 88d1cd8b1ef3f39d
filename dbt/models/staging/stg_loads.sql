select
    load_id,
    source_file,
    loaded_at
from {{ source('raw', 'loads') }}
