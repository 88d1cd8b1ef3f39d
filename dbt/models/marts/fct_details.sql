{{ config(materialized='view') }}
{{ events_of_type('detail', ['product_id', 'url', 'price']) }}
