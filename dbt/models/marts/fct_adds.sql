{{ config(materialized='view') }}
{{ events_of_type('add', ['product_id', 'price', 'quantity']) }}
