{{ config(materialized='view') }}
{{ events_of_type('remove', ['product_id', 'price', 'quantity']) }}
