{{ config(materialized='view') }}
{{ events_of_type('click', ['product_id', 'url']) }}
